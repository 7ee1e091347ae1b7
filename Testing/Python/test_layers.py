"""The rules that keep the parts exchangeable, read from the source with `ast`; nothing heavy is imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "DLIRRegistration"
CORE = SOURCE / "dlir"
MAX_LINES = 500

# What each part of dlir may import of the others. A new part finds its place here first.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "geometry": {"errors"},
    "io": {"errors", "geometry"},
    "transforms": {"errors", "geometry", "io"},
    "applying": {"errors", "geometry", "io", "transforms"},
    "metrics": {"errors", "geometry", "io", "transforms"},
    "losses": {"errors", "geometry", "transforms"},
    "networks": {"errors", "geometry", "transforms"},
    "model": {"errors", "geometry", "io", "transforms", "losses", "networks"},
    "data": {"errors", "geometry", "io"},
    "optimization": {"errors", "geometry", "io", "transforms", "losses", "networks", "model"},
    "registration": {
        "errors",
        "geometry",
        "io",
        "transforms",
        "metrics",
        "losses",
        "networks",
        "model",
        "data",
        "optimization",
    },
}
MAY_IMPORT["api"] = set(MAY_IMPORT) | {"registration"}
INFERENCE = frozenset(MAY_IMPORT)
MAY_IMPORT["evaluation"] = MAY_IMPORT["training"] = MAY_IMPORT["worker"] = MAY_IMPORT["cohort"] = set(INFERENCE)
MAY_IMPORT["cli"] = INFERENCE | {"evaluation", "training", "cohort"}
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT["commands"] = {"errors", "cli", "registration"}
# dlir itself names what it offers, and imports it when it is asked for.
MAY_IMPORT[""] = {"errors", "geometry", "io", "api", "commands"}

SLICER = {"slicer", "qt", "vtk", "ctk", "vtkmodules", "DLIRRegistrationLib", "DLIRRegistration", "DLIRRegister"}
BASE_PACKAGES = {"filelock", "numpy", "rich", "safetensors", "SimpleITK", "torch"}
# VTK is a package of its own, too, of the extra `surfaces`: the one file that may use it, when a surface is read.
WITH_VTK = CORE / "io" / "formats" / "surfaces.py"

FILES = sorted(CORE.rglob("*.py"))


def imported_names(source: str, package: str) -> Iterator[str]:
    """Dotted names that `source`, a module of `package`, imports anywhere: in functions and for typing too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.args[0].value


def part_of(path: Path) -> str:
    """The part of dlir that a file belongs to: `geometry`, `networks`...; empty for dlir's own __init__."""
    name = path.relative_to(CORE).parts[0].removesuffix(".py")
    return "" if name == "__init__" else name


def imports_of(path: Path) -> set[str]:
    package = ".".join(path.relative_to(SOURCE).parent.parts)
    return set(imported_names(path.read_text(encoding="utf-8"), package))


def parts_imported(path: Path) -> set[str]:
    parts = {name.split(".")[1] for name in imports_of(path) if name.startswith("dlir.")}
    return {part for part in parts if (CORE / part).is_dir() or (CORE / f"{part}.py").is_file()}


def packages_imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)} - set(sys.stdlib_module_names) - {"dlir"}


each_file = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(CORE)) for path in FILES])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import dlir.model.spec as s", {"dlir.model.spec"}),
        ("from dlir import model", {"dlir.model"}),
        ("from . import spec", {"dlir.networks.spec"}),
        ("from ..model import spec", {"dlir.model.spec"}),
        ("def f():\n    import slicer", {"slicer"}),
        ("import importlib\nimportlib.import_module('vtk')", {"importlib", "vtk"}),
    ],
)
def test_the_reader_sees_every_kind_of_import(source: str, expected: set[str]) -> None:
    assert set(imported_names(source, "dlir.networks")) == expected


def test_there_is_something_to_check() -> None:
    assert {part_of(path) for path in FILES} >= {"", "errors", "geometry", "transforms", "networks", "model", "cli"}


@each_file
def test_dlir_never_imports_slicer(path: Path) -> None:
    assert not packages_imported(path) & SLICER
    assert ("vtkmodules" in path.read_text(encoding="utf-8")) == (path == WITH_VTK)


@each_file
def test_parts_import_only_what_lies_below(path: Path) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT, f"dlir.{part} is new: give it a place in MAY_IMPORT and in CONTRIBUTING's layout"
    assert parts_imported(path) <= {part, *MAY_IMPORT[part]}


@each_file
def test_inference_needs_only_the_base_packages(path: Path) -> None:
    if part_of(path) in INFERENCE | {""}:
        assert packages_imported(path) <= BASE_PACKAGES


@pytest.mark.parametrize("folder", ["DLIRRegistration", "Testing", "Benchmarks"])
def test_files_are_short(folder: str) -> None:
    lengths = {path: len(path.read_bytes().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_LINES} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "import dlir",
        "import dlir; dir(dlir); dlir.ImageGrid((3, 3, 3)); dlir.DLIRError",
        "import dlir.cli",
        "import sys; sys.argv = ['dlir', '--help']; from dlir.cli import main; main()",
    ],
    ids=["import dlir", "what dlir has", "import dlir.cli", "dlir --help"],
)
def test_starting_imports_nothing_heavy(statement: str) -> None:
    code = (
        "import sys\n"
        f"try:\n    exec({statement!r})\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'SimpleITK', 'monai', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, f'imported: {sorted(heavy)}'\n"
    )
    run_python(code)


def run_python(code: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "dlir.geometry",
        "dlir.transforms.spatial",
        "dlir.transforms.files",
        "dlir.transforms.fields",
        "dlir.transforms.dicom.reading",
        "dlir.losses.choices",
    ],
)
def test_what_a_transform_or_a_choice_is_needs_no_torch(module: str) -> None:
    run_python(
        f"import sys, {module}\n"
        "heavy = {'torch', 'scipy', 'monai', 'matplotlib', 'pydicom', 'highdicom'} & set(sys.modules)\n"
        "assert not heavy, f'imported: {sorted(heavy)}'\n"
    )


@pytest.mark.parametrize("package", ["pydicom", "highdicom"])
def test_what_reads_images_imports_no_optional_package(package: str) -> None:
    run_python(f"import sys, dlir.io, dlir.api, dlir.registration.loading\nassert {package!r} not in sys.modules\n")


def test_transforms_are_read_and_written_where_there_is_no_torch(tmp_path: Path) -> None:
    """As in a Slicer whose Python has not got it yet."""
    run_python(
        f"""
import sys
sys.modules["torch"] = sys.modules["scipy"] = None
try:
    import torch
except ImportError:
    pass
else:
    raise AssertionError("torch should be missing here")

from pathlib import Path
import numpy as np
from dlir.geometry import ImageGrid
from dlir.io import write_image
from dlir.transforms.files import load_transform, read_transform, save_transform, write_transform
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, DisplacementTransform

folder, rng = Path({str(tmp_path)!r}), np.random.default_rng(0)
grid = ImageGrid((5, 6, 7), (3.0, 4.0, 5.0), (10.0, -20.0, 30.0))
spline = BSplineTransform(rng.normal(size=(3, *grid.shape)), grid)
shift = AffineTransform.translation([1.0, 2.0, 3.0])
chain = CompositeTransform((spline, shift))
for name in ("chain.h5", "chain.tfm"):
    write_transform(folder / name, chain)
    first, second = read_transform(folder / name).parts
    np.testing.assert_allclose(first.coefficients, spline.coefficients, rtol=0, atol=1e-12)
    np.testing.assert_allclose(second.matrix, shift.matrix)
    assert first.grid.shape == grid.shape
matrix, largest = chain.bound()
np.testing.assert_allclose(matrix, shift.matrix)
np.testing.assert_allclose(largest, np.abs(spline.coefficients).max((1, 2, 3)))
assert not chain.linear and CompositeTransform((shift, shift)).linear
field = DisplacementTransform(rng.normal(size=(*grid.shape, 3)).astype(np.float32), grid)
write_image(folder / "field.nii.gz", field.field, grid, is_vector=True)
write_transform(folder / "field.h5", CompositeTransform((field,)))
for name in ("field.nii.gz", "field.h5"):
    np.testing.assert_allclose(read_transform(folder / name).parts[0].field, field.field)
for transform in (chain, CompositeTransform((field, shift))):
    loaded = load_transform(folder / save_transform(folder, "saved", transform))
    assert [type(part) for part in loaded.parts] == [type(part) for part in transform.parts]
"""
    )


def test_installed_version_is_the_code_version() -> None:
    """The version is written once, in dlir/__init__.py; the build reads it there."""
    import dlir

    try:
        installed = metadata.version("dlir")
    except metadata.PackageNotFoundError:
        pytest.skip("dlir is not installed; it runs from its source folder")
    assert installed == dlir.__version__
