"""The shipped sample pair and `dlir demo`, with a tiny model that has learnt nothing."""

from __future__ import annotations

import errno
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

import dlir
import dlir.evaluation
from cli_runs import read, refuse, succeed
from dlir.cli import app
from dlir.errors import OutputError, how_to_install
from dlir.evaluation import figures
from dlir.io import read_image, read_label, writing
from dlir.model import catalogue

SAMPLE = ("fixed_ed", "moving_es")


@pytest.fixture(scope="module")
def sample_folder(repo_root: Path) -> Path:
    return repo_root / "Resources" / "SampleData"


@pytest.fixture(scope="module")
def finished(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of one demo, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "output"
    return folder, succeed(["demo", "--output", folder, "--model", model_file, "--device", "cpu"])


def demo(folder: Path, model: Path | str) -> list[Path | str]:
    return ["demo", "--output", folder / "out", "--model", model]


# -- the sample --------------------------------------------------------------------------------------


def test_sample_is_small_and_says_where_it_is_from(sample_folder: Path) -> None:
    assert 100_000 < sum(path.stat().st_size for path in sample_folder.iterdir() if path.is_file()) < 3_000_000
    said = (sample_folder / "README.md").read_text(encoding="utf-8")
    for words in ("SC-HF-I-4", "CC0 1.0", "Radau", "2009", *(f"{name}.nrrd" for name in SAMPLE)):
        assert words in said


def test_sample_is_oblique_and_wider_than_the_heart(sample_folder: Path) -> None:
    fixed, moving = (read_image(sample_folder / f"{name}.nrrd") for name in SAMPLE)
    assert fixed.grid.same_as(moving.grid, 1e-9)
    assert min(fixed.grid.extent[:2]) >= 160
    assert np.abs(fixed.grid.direction_matrix).max() < 0.95  # no axis lies along one of the patient's


@pytest.mark.parametrize("name", SAMPLE)
def test_sample_labels_lie_on_their_image(name: str, sample_folder: Path) -> None:
    assert sitk.ReadImage(str(sample_folder / f"{name}.nrrd")).GetPixelID() == sitk.sitkInt16
    image = read_image(sample_folder / f"{name}.nrrd")
    label = read_label(sample_folder / f"{name}_label.nrrd", image)
    assert set(np.unique(label.array)) == {0, 1}
    cavity = label.array == 1
    assert image.array[cavity].mean() > 1.5 * image.array[~cavity].mean()  # blood is bright
    middle = image.grid.to_physical(np.argwhere(cavity)[:, ::-1].mean(0))
    assert np.abs((middle - image.grid.center) @ image.grid.direction_matrix)[:2].max() < 20


def test_sample_heart_is_larger_at_end_diastole(sample_folder: Path) -> None:
    diastole, systole = (np.count_nonzero(read(sample_folder / f"{name}_label.nrrd")) for name in SAMPLE)
    assert 0.7 < systole / diastole < 0.85


@pytest.mark.data
def test_sample_is_the_study_unchanged(
    sample_folder: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = shared_data / "sunnybrook" / "SC-HF-I-4"
    monkeypatch.setattr(sys, "argv", ["make_sample.py", str(study), "--output", str(tmp_path)])
    runpy.run_path(str(sample_folder / "make_sample.py"), run_name="__main__")
    shipped = sorted(path.name for path in sample_folder.glob("*.nrrd"))
    assert sorted(path.name for path in tmp_path.iterdir()) == shipped
    for name in shipped:
        np.testing.assert_array_equal(read(tmp_path / name), read(sample_folder / name))
    for name, phase in zip(SAMPLE, (19, 6), strict=True):
        whole = read_image(f"{study / 'cine.nii.gz'}#{phase}")
        part = read_image(sample_folder / f"{name}.nrrd")
        np.testing.assert_allclose(part.grid.direction, whole.grid.direction, rtol=0, atol=1e-12)
        np.testing.assert_allclose(part.grid.spacing, whole.grid.spacing, rtol=1e-12)
        start = np.rint(whole.grid.to_index(part.grid.origin)).astype(int)
        np.testing.assert_allclose(whole.grid.to_physical(start), part.grid.origin, atol=1e-9)
        box = tuple(slice(a, a + n) for a, n in zip(start[::-1], part.grid.shape, strict=True))
        np.testing.assert_array_equal(whole.array[box], part.array)


# -- the command -------------------------------------------------------------------------------------


def test_demo_writes_what_register_writes_and_a_figure(
    finished: tuple[Path, str], model_file: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    given = [word for role, path in dlir.sample_pair().items() for word in (f"--{role.replace('_', '-')}", path)]
    succeed(["register", *given, "--model", model_file, "--device", "cpu", "--output", tmp_path])
    assert {path.name for path in folder.iterdir()} == {*(path.name for path in tmp_path.iterdir()), "demo.png"}
    for name in ("warped.nrrd", "jacobian.nrrd", "warped_label.nrrd"):
        np.testing.assert_array_equal(read(folder / name), read(tmp_path / name))
    ours, theirs = (json.loads((place / "report.json").read_text()) for place in (folder, tmp_path))
    assert ours["labels"] == theirs["labels"]
    assert ours["outputs"] == {**theirs["outputs"], "figure": "demo.png"}
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert 100_000 < (folder / "demo.png").stat().st_size < 5_000_000


def test_demo_prints_the_figures(finished: tuple[Path, str]) -> None:
    folder, said = finished
    report = json.loads((folder / "report.json").read_text())
    scores = report["labels"]["1"]
    for words in ("cavity of the left ventricle", "Dice", "HD", "ASD", "folding", "sd", "similarity", "demo.png"):
        assert words in said
    for value in (scores["before"]["dice"], scores["after"]["dice"], report["jacobian"]["sd"]):
        assert f"{value:.3f}" in said
    for step in report["seconds"]:
        assert step in said
    assert {"preprocess", "networks", "compose", "resample", "jacobian"} <= set(report["seconds"])


def test_demo_json_is_one_object(model_file: Path, tmp_path: Path) -> None:
    printed = succeed([*demo(tmp_path, model_file), "--json"])
    assert json.loads(printed) == json.loads((tmp_path / "out" / "report.json").read_text())


def test_demo_without_sample_says_so(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "resource_folder", lambda kind: tmp_path / kind)
    refuse(demo(tmp_path, model_file), tmp_path, "sample image fixed_ed.nrrd", "wheel", "dlir register")


def test_demo_without_matplotlib_leaves_out_the_figure_and_says_so(
    finished: tuple[Path, str], model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(dlir.evaluation, "figures")
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "dlir.evaluation."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = CliRunner().invoke(app, list(map(str, demo(tmp_path, model_file))))
    assert done.exit_code == 0
    said = done.stderr.splitlines()
    assert [line for line in said if "matplotlib" in line] == [
        f"demo.png is left out, because matplotlib is not installed: {how_to_install('eval')}"
    ]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in finished[0].iterdir()} - {"demo.png"}
    assert "figure" not in json.loads((tmp_path / "out" / "report.json").read_text())["outputs"]


def test_demo_without_its_model_says_so(tmp_path: Path) -> None:
    refuse(demo(tmp_path, "no-such-model"), tmp_path, "no-such-model")


def test_full_disk_names_the_file_where_the_user_wants_it(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing, "_reach_disk", full)
    line = refuse(demo(tmp_path, model_file), tmp_path, "disk is full")
    assert f"'{tmp_path / 'out' / 'transform.h5'}'" in line


def test_failing_figure_leaves_the_former_run_as_it_was(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "warped.nrrd").write_text("of a former run")

    def fail(path: Path, *arguments: Any, **options: Any) -> None:
        raise OutputError("cannot write: the disk is full; free some space")

    monkeypatch.setattr(figures, "registration_figure", fail)
    refuse([*demo(tmp_path, model_file), "--overwrite"], tmp_path, "disk is full")
