"""An output folder that is used again: never files of two runs, and nothing that the user has is lost unasked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from cli_runs import FIXED, Pair, body, make_model, read, refuse, snapshot, succeed
from dlir.io.writing import write_image
from dlir.registration.choices import IMAGE_FORMATS
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.results.former import own_names
from dlir.registration.results.outputs import output_names

PLAIN = {"warped.nrrd", "transform.h5", "jacobian.nrrd", "report.json"}


@pytest.fixture
def output(pair: Pair) -> Path:
    return pair.folder / "out"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def with_everything(pair: Pair, output: Path) -> None:
    points = pair.folder / "points.csv"
    points.write_text("x,y,z\n" + ",".join(map(str, FIXED.center)) + "\n")
    labels = ("--moving-label", pair.moving_label, "--moving-landmarks", points)
    succeed(pair.register(output, "--displacement", *labels))
    assert names(output) == PLAIN | {"displacement.nrrd", "warped_label.nrrd", "moving_landmarks.csv"}


# -- the same pair ------------------------------------------------------------------------------------


def test_files_of_an_earlier_run_are_replaced_as_a_set(pair: Pair, output: Path) -> None:
    """Labels of the first run once stayed beside the report of the second."""
    with_everything(pair, output)
    (output / "notes.txt").write_text("mine")
    (output / "more").mkdir()
    succeed(pair.register(output))
    assert names(output) == PLAIN | {"notes.txt", "more"}


@pytest.mark.parametrize("form", ["nii.gz", "mha"])
def test_images_are_written_as_chosen_and_replaced_whatever_they_were(pair: Pair, output: Path, form: str) -> None:
    with_everything(pair, output)
    more = ["--format", form, "--moving-label", pair.moving_label, "--displacement"]
    report = json.loads(succeed(pair.register(output, *more, "--json")))
    images = {f"{name}.{form}" for name in ("warped", "jacobian", "warped_label", "displacement")}
    assert names(output) == images | {"transform.h5", "report.json"} == set(report["outputs"].values())
    moving, warped = (sitk.ReadImage(str(output / f"{name}.{form}")) for name in ("warped", "displacement"))
    assert moving.GetSize() == warped.GetSize() == FIXED.size
    assert warped.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_allclose(moving.GetOrigin(), FIXED.origin, atol=1e-4)
    succeed(pair.register(output))
    assert names(output) == PLAIN


def test_whatever_a_registration_writes_is_known_as_its_own(pair: Pair, output: Path) -> None:
    """So that the same command again replaces it, and nothing is left beside a report that does not tell of it."""
    everything = Outputs(str(output), displacement=True, html=True, prefix="a_")
    labels = (pair.moving_label,) * 2
    request = RegistrationRequest(
        pair.fixed, pair.moving, everything, moving_labels=labels, moving_landmarks="m.csv", error_map=True
    )
    for format in IMAGE_FORMATS:
        written = output_names(replace(request, outputs=replace(everything, format=format))).values()
        assert own_names(written, "a_") == set(written)
        assert own_names(written) == own_names(written, "b_") == set()


def test_registrations_of_several_prefixes_lie_in_one_folder(pair: Pair, output: Path) -> None:
    succeed(pair.register(output))
    succeed(pair.register(output, "--prefix", "sub-01_", "--html"))
    mine = {f"sub-01_{name}" for name in PLAIN | {"report.html"}}
    assert names(output) == PLAIN | mine
    assert set(json.loads((output / "sub-01_report.json").read_text())["outputs"].values()) == mine
    succeed(pair.register(output, "--prefix", "sub-01_"))
    assert names(output) == PLAIN | mine - {"sub-01_report.html"}
    typed = ["--transform", output / "sub-01_transform.h5", "--reference", pair.fixed]
    refuse(["jacobian", *typed, "--output", output / "sub-01_jacobian.nrrd"], pair.folder, "sub-01_report.json")


@pytest.mark.parametrize("prefix", ["../", "a/b", ".hidden", "a b", "é", "-x", "a" * 101])
def test_a_prefix_is_no_path(pair: Pair, output: Path, prefix: str) -> None:
    refuse(pair.register(output, f"--prefix={prefix}"), pair.folder, "prefix")
    assert not output.exists()


def test_a_run_that_fails_leaves_the_earlier_set(pair: Pair, output: Path) -> None:
    with_everything(pair, output)
    refuse(pair.register(output, fixed_mask=pair.folder / "absent.nrrd"), pair.folder, "absent.nrrd")


def test_the_same_pair_in_other_places_is_the_same(pair: Pair, output: Path) -> None:
    succeed(pair.register(output))
    moved = pair.folder / "SMITH" / "moving.nrrd"
    moved.parent.mkdir()
    pair.moving.rename(moved)
    succeed(pair.register(output, "--full-paths", moving=moved))
    succeed(pair.register(output, moving=moved))


def test_a_report_of_an_earlier_version_is_known_by_names_and_grids(pair: Pair, output: Path) -> None:
    succeed(pair.register(output))
    report = json.loads((output / "report.json").read_text())
    for role in ("fixed", "moving"):
        del report[role]["content"]
    (output / "report.json").write_text(json.dumps(report))
    succeed(pair.register(output))
    report["moving"]["file"] = "another.nrrd"
    (output / "report.json").write_text(json.dumps(report))
    refuse(pair.register(output), pair.folder, "another.nrrd", "--overwrite")


# -- another pair, another model ----------------------------------------------------------------------


def test_results_of_another_pair_are_kept_unless_asked(pair: Pair, output: Path) -> None:
    """Of the same name and grid, as in every folder of a prepared data set."""
    with_everything(pair, output)
    write_image(pair.moving, body(FIXED, FIXED.center, 1.0), FIXED)
    other = pair.folder / "other" / "moving.nrrd"
    other.parent.mkdir()
    write_image(other, body(FIXED, FIXED.center, 2.0), FIXED)
    words = ("another registration", "moving.nrrd to fixed.nrrd by tiny", "another output folder", "--overwrite")
    refuse(pair.register(output, moving=other), pair.folder, *words)
    succeed(pair.register(output, "--overwrite", moving=other))
    assert names(output) == PLAIN


def test_results_of_another_model_are_kept_unless_asked(pair: Pair, output: Path, tmp_path: Path) -> None:
    succeed(pair.register(output))
    (output / "report.json").write_text((output / "report.json").read_text().replace('"tiny"', '"huge"'))
    refuse(pair.register(output), pair.folder, "by huge", "--overwrite")
    succeed(pair.register(output, "--overwrite"))
    again = make_model(tmp_path / "trained-again.safetensors", seed=3)
    succeed(pair.register(output, model=again))  # under the same name: the same command


# -- what no report claims ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["warped.nrrd", "report.json", "transform.h5"])
def test_a_file_that_no_report_claims_is_kept_unless_asked(pair: Pair, output: Path, name: str) -> None:
    output.mkdir()
    (output / name).write_text('{"outputs": {}}')
    refuse(pair.register(output), pair.folder, f"'{output / name}'", "--overwrite")
    succeed(pair.register(output, "--overwrite"))
    assert names(output) == PLAIN


def test_what_a_crafted_report_claims_is_not_deleted(pair: Pair, output: Path) -> None:
    with_everything(pair, output)
    report = json.loads((output / "report.json").read_text())
    kept = [pair.folder / "thesis.docx", output / "thesis.docx", output / "fixed.nrrd", pair.folder / "warped.nrrd"]
    for path in kept:
        path.write_text("mine")
    (output / "sub").mkdir()
    (output / "sub" / "warped_label.nrrd").write_text("mine")
    claims = ["../thesis.docx", "thesis.docx", "fixed.nrrd", "../warped.nrrd", "sub/warped_label.nrrd", "sub", ".", ""]
    claims += [str(path) for path in kept]
    report["outputs"] |= {f"more_{number}": claim for number, claim in enumerate(claims)} | {"odd": 3, "none": None}
    (output / "report.json").write_text(json.dumps(report))
    succeed(pair.register(output))
    assert all(path.read_text() == "mine" for path in kept)
    assert (output / "sub" / "warped_label.nrrd").read_text() == "mine"
    assert names(output) == PLAIN | {"thesis.docx", "fixed.nrrd", "sub"}


@pytest.mark.parametrize("content", ["", "[]", "nonsense", '{"report_version": 1}', "[" * 100_000])
def test_a_report_that_is_none_claims_nothing(pair: Pair, output: Path, content: str) -> None:
    output.mkdir()
    (output / "report.json").write_text(content)
    (output / "warped_label.nrrd").write_text("mine")
    succeed(pair.register(output, "--overwrite"))
    assert names(output) == PLAIN | {"warped_label.nrrd"}


def test_a_link_of_the_earlier_set_goes_and_what_it_points_to_stays(pair: Pair, output: Path) -> None:
    with_everything(pair, output)
    elsewhere = pair.folder / "archive.nrrd"
    (output / "warped_label.nrrd").rename(elsewhere)
    (output / "warped_label.nrrd").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    succeed(pair.register(output))
    assert elsewhere.read_bytes() == before
    assert names(output) == PLAIN


def test_an_input_of_the_earlier_set_is_not_deleted(pair: Pair, output: Path) -> None:
    """As where propagated labels serve as a mask in the next run."""
    with_everything(pair, output)
    mask = output / "warped_label.nrrd"
    refuse(pair.register(output, fixed_mask=mask), pair.folder, str(mask), "would replace the input", "another")


# -- the other commands -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["jacobian", "apply"])
def test_a_single_file_does_not_mix_with_a_registration(pair: Pair, output: Path, command: str) -> None:
    succeed(pair.register(output))
    image = ["--image", pair.moving] if command == "apply" else []
    typed = [command, "--transform", output / "transform.h5", "--reference", pair.moving, *image, "--output"]
    target = output / "jacobian.nrrd"
    refuse([*typed, target], pair.folder, str(target), "registration", "another name", "--overwrite")
    succeed([*typed, target, "--overwrite"])
    assert read(target).shape == read(pair.moving).shape
    for _ in range(2):  # a file of the user's own choice, as often as wanted
        succeed([*typed, output / "mine.nrrd"])


def test_what_apply_and_jacobian_print_names_files_and_no_folders(pair: Pair, output: Path) -> None:
    succeed(pair.register(output))
    typed = ["--transform", output / "transform.h5", "--reference", pair.fixed, "--output", output / "mine.nrrd"]
    for command in (["jacobian"], ["apply", "--image", pair.moving]):
        report = json.loads(succeed([*command, *typed, "--json"]))
        assert (report["transform"], report["reference"]) == ("transform.h5", "fixed.nrrd")
        assert str(pair.folder) not in json.dumps(report)
        report = json.loads(succeed([*command, *typed, "--json", "--full-paths"]))
        assert (report["transform"], report["output"]) == (str(output / "transform.h5"), str(output / "mine.nrrd"))


def test_no_file_of_a_registration_names_a_folder(pair: Pair, output: Path) -> None:
    """Nor does what ITK and HDF5 write beside the voxels."""
    patient = pair.folder / "SMITH^JOHN"
    patient.mkdir()
    for path in (pair.fixed, pair.moving, pair.moving_label):
        (patient / path.name).write_bytes(path.read_bytes())
    label = ("--moving-label", patient / pair.moving_label.name)
    succeed(pair.register(output, *label, fixed=patient / pair.fixed.name, moving=patient / pair.moving.name))
    for name, content in snapshot(output).items():
        assert content is not None
        assert b"SMITH" not in content, name
        assert str(pair.folder).encode() not in content, name
    assert np.isfinite(read(output / "warped.nrrd")).all()
