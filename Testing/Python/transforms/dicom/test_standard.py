"""Registration objects against the attribute tables of the standard, and against dciodvfy where that is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_series import write_series
from dlir.io.dicom.instances import read_series
from dlir.transforms.dicom.writing import write_registration
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import make_grid

pydicom = pytest.importorskip("pydicom")

GRID = make_grid((5, 7, 9), (2.0, 1.5, 4.0), (10, -30, 60), (0.2, -0.1, 0.4))
CONTROLS = make_grid((6, 6, 6), (6.0, 6.0, 12.0), tuple(GRID.center - 16))
LINEAR = AffineTransform.translation((1, 2, 3))
BENDING = BSplineTransform(np.random.default_rng(0).normal(0, 1, (3, 6, 6, 6)), CONTROLS)
KINDS = {
    "spatial-registration": CompositeTransform((LINEAR,)),
    "deformable-spatial-registration": CompositeTransform((BENDING, LINEAR)),
}


@pytest.fixture(params=KINDS, ids=str)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The name of an object's table, and one of a series to another of another study."""
    values = np.random.default_rng(0).integers(0, 900, GRID.shape).astype(np.int16)
    write_series(tmp_path / "fixed", values, GRID, "1.2.3.5")
    write_series(tmp_path / "moving", values, GRID, "1.2.4.6", study="1.2.4")
    series = [read_series(str(tmp_path / name), "image") for name in ("fixed", "moving")]
    write_registration(tmp_path / "reg.dcm", KINDS[request.param], *series)
    return request.param, tmp_path / "reg.dcm"


def tables() -> tuple[dict[str, Any], dict[str, Any]]:
    """The modules of each object and the attributes of each module, from PS3.3, as highdicom ships them."""
    found = find_spec("highdicom")
    folder = Path(str(found.origin)).parent / "_standard" if found else Path()
    if not (folder / "module_attribute_map.json").is_file():
        pytest.skip("highdicom, which ships the tables of the standard, is not installed")
    modules, attributes = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("iod_module_map", "module_attribute_map")
    )
    return modules, attributes


def items_at(dataset: Any, path: list[str]) -> list[Any]:
    """The datasets that a table's row is about: of each item of the sequences on its way that are there."""
    found = [dataset]
    for keyword in path:
        found = [item for parent in found for item in parent.get(keyword) or ()]
    return found


def test_every_required_attribute_of_the_tables_is_there(written: tuple[str, Path]) -> None:
    name, path = written
    modules, attributes = tables()
    dataset, looked_at, wrong = pydicom.dcmread(path), 0, []
    for module in modules[name]:
        for row in attributes[module["key"]] if module["usage"] == "M" else ():
            if row["type"] not in ("1", "2"):
                continue
            for item in items_at(dataset, row["path"]):
                looked_at += 1
                where = ".".join([*row["path"], row["keyword"]])
                if row["keyword"] not in item:
                    wrong.append(f"{where} is missing")
                elif row["type"] == "1" and item[row["keyword"]].is_empty:
                    wrong.append(f"{where} is empty")
    assert wrong == []
    assert looked_at > 60


def test_no_attribute_that_the_tables_do_not_know(written: tuple[str, Path]) -> None:
    name, path = written
    modules, attributes = tables()
    known = {(*row["path"], row["keyword"]) for module in modules[name] for row in attributes[module["key"]]}
    found: set[tuple[str, ...]] = set()

    def collect(dataset: Any, where: tuple[str, ...]) -> None:
        for element in dataset:
            found.add((*where, element.keyword))
            for item in element.value if element.VR == "SQ" else ():
                collect(item, (*where, element.keyword))

    collect(pydicom.dcmread(path), ())
    assert found - known == set()


def test_dciodvfy_finds_no_error(written: tuple[str, Path]) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed; Debian and Ubuntu have it in dicom3tools")
    done = subprocess.run([program, str(written[1])], capture_output=True, text=True, timeout=60)
    assert "SpatialRegistration" in done.stdout + done.stderr
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []
