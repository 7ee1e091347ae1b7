"""The rules of the Slicer side, read from the source: who may import whom, where RAS begins, where Qt stays."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "DLIRRegistration"
LIBRARY = SOURCE / "DLIRRegistrationLib"
MODULE = SOURCE / "DLIRRegistration.py"
FILES = sorted([*LIBRARY.rglob("*.py"), *([MODULE] if MODULE.exists() else [])])

# What Slicer has, and what opening the module may therefore import.
AT_FILE_SCOPE = {"numpy", "SimpleITK", "slicer", "vtk", "dlir", "DLIRRegistrationLib"}
QT = {"qt", "ctk", "PythonQt", "PySide6"}
# What is installed later, or takes long to import.
HEAVY = {"torch", "safetensors", "typer", "rich", "monai", "pydantic", "scipy", "matplotlib", "lightning_fabric"}
# Parts of dlir that compute.
COMPUTES = tuple(
    f"dlir.{part}." for part in ("registration", "networks", "training", "evaluation", "transforms", "cli")
)
# What of them is data, words or plain functions, and needs no torch: numpy and SimpleITK at most.
LIGHT = (
    *(
        f"dlir.registration.{part}."
        for part in ("choices", "progress", "request", "judging.verdict", "results.rows", "results.page")
    ),
    *(f"dlir.transforms.{part}." for part in ("spatial", "files")),
)
# LPS to RAS is one multiplication by this.
FLIP = (-1, -1, 1)

# Who may import from whom when it runs: a folder of the library, or a file at its top, from others of them.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "models": set(),
    "dependencies": set(),
    "sample_data": set(),
    "scene": set(),
    "worker": set(),
    "display": {"scene"},
    "registration": {"scene", "worker", "models"},
    "training": {"worker"},
    "logic": {"scene", "worker", "models", "display", "registration", "training"},
    "panel": {"logic", "display", "models", "dependencies"},
    "selfcheck": {"logic", "registration", "scene"},
    "selftest": {"logic", "selfcheck", "dependencies"},
    "DLIRRegistration": {"logic", "panel", "selftest", "sample_data", "display"},
}
each_file = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(SOURCE)) for path in FILES])


def names_of(node: ast.AST) -> Iterator[str]:
    """Dotted names that an import statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_file_scope(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import: those of classes and of `if` and `try` too, but for typing's own."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for part in ("body", "orelse", "finalbody"):
                yield from at_file_scope(getattr(statement, part, None) or [])


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_on_import(path: Path) -> set[str]:
    return {name for statement in at_file_scope(parsed(path).body) for name in names_of(statement)}


def imported(path: Path) -> set[str]:
    return {name for node in ast.walk(parsed(path)) for name in names_of(node)}


def imported_when_run(path: Path) -> set[str]:
    """On import or by a function; what only annotations need does not count."""
    tree = parsed(path)
    only_typing = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    return {name for node in ast.walk(tree) if id(node) not in only_typing for name in names_of(node)}


def room(path: Path) -> str:
    """The folder of the library that a file lies in, or its own name where it lies at the top."""
    return "DLIRRegistration" if path == MODULE else path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def strays(path: Path) -> set[str]:
    """What of the library a file imports, less the library's name, from where it may not."""
    ours = {name.partition(".")[2] for name in imported_when_run(path) if name.startswith("DLIRRegistrationLib.")}
    return {name for name in ours if name.partition(".")[0] not in MAY_IMPORT[room(path)] | {room(path)}}


def packages(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)


def flips(tree: ast.Module) -> Iterator[int]:
    """Lines with a sequence that begins as the diagonal of the matrix from LPS to RAS."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Tuple, ast.List)) and len(node.elts) in (3, 4):
            try:
                values = ast.literal_eval(node)
            except ValueError:
                continue
            if tuple(values[:3]) == FLIP:
                yield node.lineno


@pytest.mark.parametrize("text", ["np.diag([-1.0, -1, 1, 1])", "x * (-1, -1, 1)", "f(a=[-1, -1, 1.0])"])
def test_the_reader_sees_a_flip(text: str) -> None:
    assert list(flips(ast.parse(text))) == [1]


def test_the_reader_tells_what_runs_on_import() -> None:
    text = """
import a
if TYPE_CHECKING:
    import b
try:
    import c
finally:
    import d
class E:
    import e
    def f(self):
        import f
"""
    found = {name for statement in at_file_scope(ast.parse(text).body) for name in names_of(statement)}
    assert found == {"a", "c", "d", "e"}


def test_there_is_something_to_check() -> None:
    assert {"client.py", "frames.py", "run.py"} <= {path.name for path in FILES}


@each_file
def test_opening_imports_only_what_slicer_has(path: Path) -> None:
    allowed = AT_FILE_SCOPE | (QT if room(path) == "panel" else set())
    assert packages(imported_on_import(path)) <= allowed


@each_file
def test_qt_stays_in_the_panel(path: Path) -> None:
    if room(path) != "panel":
        assert not packages(imported(path)) & QT


@each_file
def test_every_file_imports_from_below(path: Path) -> None:
    """`scene` below `registration` and `display`, these below `logic`, and that below `panel`, which runs nothing."""
    assert strays(path) == set()


def test_a_stray_is_seen_but_not_for_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "LIBRARY", tmp_path)
    path = tmp_path / "scene" / "x.py"
    path.parent.mkdir()
    path.write_text("""
from DLIRRegistrationLib.scene.frames import named
if TYPE_CHECKING:
    from DLIRRegistrationLib.registration.run import Run
def f():
    from DLIRRegistrationLib import logic
    import DLIRRegistrationLib.display.views
""")
    assert strays(path) == {"logic", "display.views"}


def test_the_module_file_is_thin() -> None:
    """It names parameters and hands on events; what computes is elsewhere."""
    assert packages(imported(MODULE)) == {"slicer", "vtk", "DLIRRegistrationLib"}
    assert len(MODULE.read_text(encoding="utf-8").splitlines()) <= 300


@each_file
def test_nothing_points_back(path: Path) -> None:
    if path != MODULE:
        assert not packages(imported(path)) & {"DLIRRegistration", "DLIRRegister"}


@each_file
def test_the_panel_knows_nothing_behind_the_logic(path: Path) -> None:
    """Not by annotations, and not by reaching through the Logic for what it works with."""
    if room(path) == "panel":
        behind = ("registration", "scene", "training", "worker")
        assert not {
            name for name in imported(path) if name.startswith(tuple(f"DLIRRegistrationLib.{b}" for b in behind))
        }
        reached = re.findall(r"logic\.(worker|_\w+)", path.read_text(encoding="utf-8"))
        assert reached == []


@each_file
def test_only_one_file_turns_lps_into_ras(path: Path) -> None:
    if path != LIBRARY / "scene" / "frames.py":
        assert list(flips(parsed(path))) == []


@each_file
def test_nothing_is_computed_in_slicers_own_process(path: Path) -> None:
    """Not even behind a function: torch would block the windows, and take Slicer with it when it fails."""
    if path != LIBRARY / "worker" / "attended.py":  # which is the other process
        names = {name for name in imported(path) if not f"{name}.".startswith(LIGHT)}
        found = {name for name in names if name.partition(".")[0] in HEAVY or name.startswith(COMPUTES)}
        assert found == set()


@pytest.mark.parametrize("path", sorted((SOURCE / "dlir").rglob("*.py")), ids=lambda path: path.stem)
def test_the_core_knows_lps_only(path: Path) -> None:
    """But for what reads files that say in which of the two they are."""
    if path.name != "frames.py":
        assert list(flips(parsed(path))) == []


def test_what_is_imported_of_dlir_is_light() -> None:
    """Opening the module must not need, or wait for, what is installed on demand."""
    wanted = {
        name.rpartition(".")[0] for path in FILES for name in imported_on_import(path) if name.startswith("dlir.")
    }
    assert "dlir.worker.protocol" in wanted
    code = (
        "import importlib, sys\n"
        f"for name in {sorted(wanted)!r}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_transforms_are_read_looked_into_and_written_without_torch(tmp_path: Path) -> None:
    """In Slicer's Python before anything is installed."""
    code = f"""
import sys
sys.modules["torch"] = None  # importing it fails
from pathlib import Path
import numpy as np
import dlir.transforms.files as files
from dlir.geometry import ImageGrid
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
grid = ImageGrid((4, 5, 6), (3.0, 2.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
spline = BSplineTransform(np.ones((3, 4, 5, 6)), grid)
path = Path({str(tmp_path / "chain.h5")!r})
files.write_transform(path, CompositeTransform((spline, AffineTransform.translation((1, 2, 3)))))
found = files.read_transform(path)
assert [type(part).__name__ for part in found.parts] == ["BSplineTransform", "AffineTransform"]
assert np.array_equal(found.parts[0].coefficients, spline.coefficients) and not found.linear
assert np.array_equal(CompositeTransform(found.parts[1:]).matrix[:3, 3], (1, 2, 3))
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
