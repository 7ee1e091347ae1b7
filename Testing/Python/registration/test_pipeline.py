"""What a request gives, in this process, with a tiny model on oblique, unequal grids: files, figures, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from cli_runs import FIXED, body, make_model, read
from dlir.errors import DLIRError, GeometryError, ImageError, ModelError, OutputError, TransformError, WorkerError
from dlir.geometry import ImageGrid
from dlir.io.arrays import write_array
from dlir.metrics.labels import dice
from dlir.registration.judging.verdict import Verdict
from dlir.registration.pipeline import Finished, run, save
from dlir.registration.request import ArrayFile, Comparison, Outputs, RegistrationRequest
from dlir.registration.results.former import content_of
from dlir.registration.session import Session
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.inverse import InverseTransform
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from dlir.worker.protocol import Done, encode_event
from grids import Array, make_grid

MOVING = make_grid((15, 24, 23), (2.2, 2.0, 2.7), angles=(0.25, -0.45, 0.85))
MOVING = replace(MOVING, origin=tuple(FIXED.center + np.array([2.0, -1.0, 2.0]) - MOVING.center))
# Labels are drawn on grids of their own.
DRAWN = make_grid((20, 26, 28), (1.6, 1.8, 1.9), angles=(-0.2, 0.1, 0.4))
DRAWN = replace(DRAWN, origin=tuple(FIXED.center - DRAWN.center))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, Array, ImageGrid], ArrayFile]:
    """Writes an array as the client does."""

    def put(name: str, array: Array, grid: ImageGrid) -> ArrayFile:
        for _ in write_array(tmp_path / f"{name}.npy", array):
            pass
        return ArrayFile(str(tmp_path / f"{name}.npy"), grid.to_dict(), f"my {name}")

    return put


@pytest.fixture
def asked(put: Callable[..., ArrayFile], model: Path, tmp_path: Path) -> RegistrationRequest:
    """A body, and the same 3 mm away."""
    images = put("fixed", body(FIXED, FIXED.center, 0.0), FIXED), put("moving", body(MOVING, FIXED.center, 3.0), MOVING)
    (tmp_path / "results").mkdir()
    return RegistrationRequest(*images, Outputs(str(tmp_path / "results"), "arrays"), str(model), "cpu")


def do(asked: RegistrationRequest, session: Session) -> Finished:
    return run(asked, session, lambda step, fraction: None, pytest.fail)


def results(asked: RegistrationRequest) -> Path:
    assert asked.outputs is not None
    return Path(asked.outputs.folder)


def labels(grid: ImageGrid, shift: float = 0.0) -> Array:
    values = body(grid, FIXED.center, shift)
    return ((values > 60).astype(np.int16) + (values > 180)) * 300


def transform_of(done: Finished) -> CompositeTransform:
    return read_transform(Path(done.files["transform"]))


# -- results ------------------------------------------------------------------------------------------


def test_the_arrays_are_what_the_transform_says(asked: RegistrationRequest, session: Session) -> None:
    done = do(asked, session)
    assert set(done.files) == {"warped", "jacobian", "transform"}
    assert {path.name for path in results(asked).iterdir()} == {
        "warped.npy",
        "jacobian.npy",
        "transform.h5",
    }
    warped, jacobian = np.load(done.files["warped"]), np.load(done.files["jacobian"])
    assert (warped.dtype, jacobian.dtype) == (np.float32, np.float32)
    image = MOVING.to_sitk(body(MOVING, FIXED.center, 3.0))
    reference = FIXED.to_sitk(np.zeros(FIXED.shape, np.uint8))
    transform = sitk.ReadTransform(done.files["transform"])
    expected = sitk.GetArrayFromImage(sitk.Resample(image, reference, transform, sitk.sitkLinear))
    inside = sitk.GetArrayFromImage(sitk.Resample(image * 0 + 1, reference, transform, sitk.sitkLinear)) > 0.999
    assert inside.mean() > 0.5
    assert np.abs(warped - expected)[inside].max() < 0.01 * np.ptp(expected)
    np.testing.assert_allclose(jacobian, jacobian_map(transform_of(done), FIXED), rtol=0.01)


def test_the_report_is_the_command_lines_and_fits_into_a_line(asked: RegistrationRequest, session: Session) -> None:
    done = do(asked, session)
    report = done.report
    assert report["fixed"] == {"file": "my fixed", "content": content_of(done.loaded.fixed), **FIXED.to_dict()}
    assert report["similarity"]["after"] is not None
    assert report["jacobian"]["mean"] == pytest.approx(np.load(done.files["jacobian"]).mean(), rel=1e-4)
    assert report["model"]["name"] == "tiny"
    assert {"read", "load", "networks", "labels", "figures", "write"} <= set(report["seconds"])
    assert "labels" not in report
    assert "inverse" not in report
    assert json.loads(encode_event(Done("1", done.files, report, 1.0)))["report"] == report


def test_the_objective_is_told_until_it_is_stopped(asked: RegistrationRequest, session: Session) -> None:
    told: list[tuple[str, float]] = []
    steps: list[str] = []
    done = run(
        replace(asked, refine="50it"),
        session,
        lambda step, fraction: steps.append(step),
        stop=lambda: len(told) > 3,
        curve=lambda stage, value: told.append((stage, value)),
    )
    refining = [step for step in steps if "similarity" in step]
    assert refining == [f"refining, {stage}, similarity {value:.4f}" for stage, value in told]
    assert done.report["refinement"]["stopped"]
    assert done.report["refinement"]["steps"] == len(told) - 1 == 3


def test_steps_are_told_forwards_and_in_words(asked: RegistrationRequest, session: Session, put: Any) -> None:
    told: list[tuple[str, float]] = []
    asked = replace(asked, moving_labels=(put("label", labels(MOVING), MOVING),))
    run(asked, session, lambda step, fraction: told.append((step, fraction)), pytest.fail)
    steps = list(dict.fromkeys(step for step, _ in told))
    stages = ["stage 1 of 2", "stage 2 of 2"]
    assert steps == [
        "reading",
        "loading model",
        "preparing",
        *stages,
        "resampling",
        "labels",
        "figures",
        "judging",
        "writing",
    ]
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_the_file_is_the_transform(asked: RegistrationRequest, session: Session) -> None:
    done = do(asked, session)
    found, expected = transform_of(done), done.result.transform
    assert [type(part) for part in found.parts] == [BSplineTransform, BSplineTransform, AffineTransform]
    points = FIXED.voxel_centers()[::3, ::4, ::4].reshape(-1, 3)
    np.testing.assert_allclose(found.apply(points), expected.apply(points), atol=1e-9)


def test_an_initial_transform_and_masks_count(
    asked: RegistrationRequest, session: Session, put: Any, tmp_path: Path
) -> None:
    start = CompositeTransform((AffineTransform.translation((2.5, 2.0, 3.0)),))
    write_transform(tmp_path / "start.h5", start)
    mask = body(FIXED, FIXED.center, 0.0) > 60
    done = do(
        replace(
            asked,
            initial_transform=str(tmp_path / "start.h5"),
            fixed_mask=put("mask", mask.astype(np.uint8), FIXED),
            moving_mask=put("everywhere", np.ones(MOVING.shape, np.uint8), MOVING),
        ),
        session,
    )
    assert done.report["initialization"]["mode"] == "given transform"
    assert done.report["fixed_mask"] == "my mask"
    assert done.report["similarity"]["voxels_after"] <= mask.sum()
    assert done.report["jacobian"]["mean"] == pytest.approx(np.load(done.files["jacobian"])[mask].mean(), rel=1e-4)


def test_a_mask_may_lie_on_a_grid_of_its_own(asked: RegistrationRequest, session: Session, put: Any) -> None:
    mask = labels(DRAWN)
    here = resample(mask, DRAWN, CompositeTransform(()), FIXED, "nearest") > 0
    one, other = (
        do(replace(asked, fixed_mask=file), session).report
        for file in (put("drawn", mask, DRAWN), put("resampled", here, FIXED))
    )
    assert one["similarity"] == other["similarity"]
    assert one["jacobian"] == other["jacobian"]
    assert one["similarity"]["voxels_after"] < here.size


# -- in memory ----------------------------------------------------------------------------------------


@pytest.fixture
def in_memory(asked: RegistrationRequest, put: Any) -> RegistrationRequest:
    point = tuple(FIXED.center.tolist())
    layer = put("label", labels(MOVING, 3.0), MOVING)
    return replace(asked, outputs=None, moving_labels=(layer,), backward_labels=(layer,), moving_landmarks=(point,))


def test_without_outputs_everything_is_done_but_the_writing(
    in_memory: RegistrationRequest, session: Session, tmp_path: Path
) -> None:
    told: list[str] = []
    done = run(in_memory, session, lambda step, fraction: told.append(step), pytest.fail)
    written = do(replace(in_memory, outputs=Outputs(str(tmp_path / "files"))), session)
    assert (done.files, done.report["outputs"], "writing" in told) == ({}, {}, False)
    assert list(done.report) == list(written.report)
    circumstances = {"outputs", "seconds", "peak_memory_mb"}
    for key in set(done.report) - circumstances:
        assert done.report[key] == written.report[key], key
    assert list(written.report["seconds"]) == [*done.report["seconds"], "write"]
    for ours, theirs in zip(arrays(done), arrays(written), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    points = FIXED.voxel_centers()[::4, ::4, ::4].reshape(-1, 3)
    np.testing.assert_array_equal(done.result.transform.apply(points), written.result.transform.apply(points))


def arrays(done: Finished) -> list[Array]:
    assert done.propagated.landmarks is not None
    carried = [*done.propagated.before, *done.propagated.after, *done.propagated.backward]
    return [done.result.warped, done.result.jacobian, *carried, done.propagated.landmarks.points]


def test_what_is_saved_later_is_what_is_written_at_once(
    in_memory: RegistrationRequest, session: Session, tmp_path: Path
) -> None:
    later, at_once = (Outputs(str(tmp_path / name), displacement=True) for name in ("later", "at once"))
    done = do(in_memory, session)
    saved, written = save(done, later), do(replace(in_memory, outputs=at_once), session)
    assert (done.files, done.report["outputs"]) == ({}, {})
    assert saved.request == replace(written.request, outputs=later)
    assert saved.report["outputs"] == written.report["outputs"]
    assert list(saved.report["seconds"]) == list(written.report["seconds"])
    for key, name in saved.report["outputs"].items():
        assert Path(saved.files[key]) == tmp_path / "later" / name
        if name not in ("report.json", "transform.h5"):  # which hold the time
            assert Path(saved.files[key]).read_bytes() == (tmp_path / "at once" / name).read_bytes(), name
    assert json.loads(Path(saved.files["report"]).read_text()) == saved.report
    assert {path.name for path in (tmp_path / "later").iterdir()} == set(saved.report["outputs"].values())


def test_a_folder_of_another_pair_is_not_saved_over(
    asked: RegistrationRequest, session: Session, put: Any, tmp_path: Path
) -> None:
    outputs = Outputs(str(tmp_path / "files"))
    first = do(replace(asked, outputs=None), session)
    save(first, outputs)
    save(first, outputs)
    other = put("other", body(FIXED, FIXED.center, 1.0), FIXED)
    second = do(replace(asked, outputs=None, fixed=other), session)
    before = (tmp_path / "files" / "report.json").read_bytes()
    with pytest.raises(OutputError, match="holds another registration"):
        save(second, outputs)
    assert (tmp_path / "files" / "report.json").read_bytes() == before
    assert save(second, replace(outputs, overwrite=True)).report["fixed"]["file"] == "my other"


# -- labels -------------------------------------------------------------------------------------------


def test_labels_reach_the_other_side(asked: RegistrationRequest, session: Session, put: Any) -> None:
    moving, fixed = labels(DRAWN, 3.0), labels(DRAWN)
    layers = put("moving labels", moving, DRAWN), put("more", (labels(MOVING, 3.0) > 0).astype(np.uint8), MOVING)
    scored = put("fixed labels", fixed, DRAWN)
    done = do(
        replace(
            asked,
            moving_labels=layers,
            fixed_labels=(scored,),
            comparisons=(Comparison("core", 0, 600, 0, 600), Comparison("all of it", 1, 1, 0, 300)),
            backward_labels=(scored,),
        ),
        session,
    )
    transform = transform_of(done)
    found = np.load(done.files["label_0"])
    np.testing.assert_array_equal(found, resample(moving, DRAWN, transform, FIXED, "nearest"))
    assert found.dtype == np.int16
    assert np.load(done.files["label_1"]).dtype == np.uint8
    back = np.load(done.files["backward_label_0"])
    exact = resample(fixed, DRAWN, InverseTransform(transform), MOVING, "nearest")
    assert np.count_nonzero(back != exact) <= 0.005 * np.count_nonzero(exact)
    assert set(np.unique(back)) == {0, 300, 600}
    assert done.report["inverse"]["unsolved_voxels"] == 0
    assert 0 < done.report["inverse"]["largest_residual_mm"] <= 0.01
    scores = done.report["labels"]
    assert set(scores) == {"core", "all of it"}
    here = resample(fixed, DRAWN, CompositeTransform(()), FIXED, "nearest")
    assert scores["core"]["after"]["dice"] == pytest.approx(dice(here == 600, found == 600))
    assert scores["all of it"]["after"]["dice"] == pytest.approx(dice(here == 300, np.load(done.files["label_1"]) == 1))


def test_labels_before_and_after(asked: RegistrationRequest, session: Session, put: Any) -> None:
    layer = put("labels", labels(MOVING, 3.0), MOVING)
    done = do(replace(asked, moving_labels=(layer,)), session)
    before, after = done.propagated.before[0], done.propagated.after[0]
    for found, transform in ((before, done.loaded.start), (after, done.result.transform)):
        expected = resample(labels(MOVING, 3.0), MOVING, transform, FIXED, "nearest")
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.int16
    assert not np.array_equal(before, after)


def test_several_layers_as_files(asked: RegistrationRequest, session: Session, put: Any) -> None:
    moving = put("moving labels", labels(DRAWN, 3.0), DRAWN), put("more", labels(MOVING, 3.0), MOVING)
    outputs = Outputs(str(results(asked)))
    done = do(replace(asked, outputs=outputs, moving_labels=moving, backward_labels=(moving[0],)), session)
    for number, layer in enumerate(done.propagated.after, 1):
        np.testing.assert_array_equal(read(Path(done.files[f"warped_label_{number}"])), layer)
    back = sitk.ReadImage(done.files["backward_label"])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), done.propagated.backward[0])
    assert ImageGrid.from_sitk(back).same_as(MOVING)
    assert {path.name for path in Path(outputs.folder).iterdir()} == set(done.report["outputs"].values())


def test_moving_landmarks_alone_are_carried_and_not_scored(asked: RegistrationRequest, session: Session) -> None:
    points = tuple(map(tuple, (FIXED.center + np.array([[0, 0, 0], [4, 3, -2]])).tolist()))
    done = do(replace(asked, moving_landmarks=points), session)
    assert "landmarks" not in done.report
    carried = np.array(done.report["moving_landmarks"]["points"])
    np.testing.assert_allclose(transform_of(done).apply(carried), points, atol=0.01)
    assert 0 <= done.report["moving_landmarks"]["largest_residual_mm"] <= 0.01


def test_points_that_are_not_known_keep_their_places(asked: RegistrationRequest, session: Session) -> None:
    a, b, c = map(tuple, (FIXED.center + np.array([[0, 0, 0], [4, 3, -2], [-5, 1, 2]])).tolist())
    done = do(replace(asked, moving_landmarks=(a, None, b, c), fixed_landmarks=(None, a, b, c)), session)
    told = done.report["moving_landmarks"]
    assert [point is None for point in told["points"]] == [False, True, False, False]
    known = [point for point in told["points"] if point is not None]
    np.testing.assert_allclose(transform_of(done).apply(np.array(known)), [a, b, c], atol=0.01)
    assert (told["unsolved"], told["largest_residual_mm"] <= 0.01) == (0, True)
    errors = np.linalg.norm(transform_of(done).apply(np.array([b, c])) - [b, c], axis=1)
    assert done.report["landmarks"]["count"] == 2
    assert done.report["landmarks"]["after"]["max_mm"] == pytest.approx(errors.max(), abs=1e-6)
    assert json.loads(encode_event(Done("1", done.files, done.report, 1.0)))["report"] == done.report


def test_a_point_in_a_fold_has_no_place(asked: RegistrationRequest, session: Session, tmp_path: Path) -> None:
    """The middle control point is pushed so far that everything around it is turned over and nothing lands there."""
    grid = make_grid((9, 9, 9), (10.0, 10.0, 10.0), origin=FIXED.center - 40)
    coefficients = np.zeros((3, 9, 9, 9))
    coefficients[:, 4, 4, 4] = 120
    write_transform(tmp_path / "fold.h5", CompositeTransform((BSplineTransform(coefficients, grid),)))
    points = grid.to_physical(np.random.default_rng(0).uniform(3, 6, (100, 3)))
    given = tuple(map(tuple, points.tolist()))
    done = do(replace(asked, initial_transform=str(tmp_path / "fold.h5"), moving_landmarks=given), session)
    told = done.report["moving_landmarks"]
    lost = np.array([point is None for point in told["points"]])
    assert lost.sum() == told["unsolved"]
    assert 0 < lost.sum() < 100
    found = np.array([point for point in told["points"] if point is not None])
    np.testing.assert_allclose(transform_of(done).apply(found), points[~lost], atol=0.01)


def test_landmarks_that_do_not_correspond(asked: RegistrationRequest, session: Session) -> None:
    points = ((0.0, 0.0, 0.0), (1.0, 2.0, 3.0))
    with pytest.raises(GeometryError, match="1 fixed and 2 moving landmarks do not correspond"):
        do(replace(asked, fixed_landmarks=points[:1], moving_landmarks=points), session)


# -- refusals -----------------------------------------------------------------------------------------


def test_what_cannot_be_registered_is_named(
    asked: RegistrationRequest, session: Session, put: Any, tmp_path: Path
) -> None:
    image = body(FIXED, FIXED.center, 0.0)
    grey = np.random.default_rng(0).integers(0, 3000, FIXED.shape)
    holes = np.where(image > 60, np.nan, image).astype(np.float32)
    small, far = make_grid((4, 4, 4)), make_grid((4, 4, 4), origin=(900, 0, 0))
    (tmp_path / "no.h5").write_text("no transform")
    cases: list[tuple[dict[str, Any], type[DLIRError], str]] = [
        ({"fixed": put("constant", np.ones(FIXED.shape), FIXED)}, ImageError, "fixed image 'my constant'.*every voxel"),
        ({"moving": put("holes", holes, FIXED)}, ImageError, "moving image 'my holes'.*not finite"),
        ({"fixed": put("other", image, MOVING)}, GeometryError, "'my other'.*its grid says"),
        ({"fixed": put("small", np.arange(64.0).reshape(4, 4, 4), small)}, GeometryError, "'my small' measures"),
        ({"fixed": replace(asked.fixed, grid={"size": 3})}, GeometryError, "grid of 'my fixed'"),
        ({"fixed": replace(asked.fixed, array="gone.npy")}, WorkerError, "gone.npy"),
        (
            {"fixed_mask": put("empty", np.zeros(FIXED.shape), FIXED)},
            ImageError,
            "'my empty' marks no voxel of 'my fixed'",
        ),
        ({"moving_mask": put("far", np.ones((4, 4, 4)), far)}, ImageError, "'my far' marks no voxel of 'my moving'"),
        (
            {"fixed_mask": put("grey", grey, FIXED)},
            ImageError,
            "fixed mask 'my grey' has .* as those of a grey image do; give a mask",
        ),
        (
            {"moving_labels": (put("grey", grey, FIXED),)},
            ImageError,
            "moving label 'my grey' has .* as those of a grey",
        ),
        ({"moving_labels": (put("floats", image, FIXED),)}, ImageError, "'my floats' holds float32 values, no labels"),
        ({"model": str(tmp_path / "none.safetensors")}, ModelError, "none.safetensors"),
        ({"initial_transform": str(tmp_path / "no.h5")}, TransformError, "no.h5"),
    ]
    for changes, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            do(replace(asked, **changes), session)
        assert "\n" not in str(caught.value)
        assert list(results(asked).iterdir()) == []


def test_the_verdict_so_far_is_offered_before_the_way_back(asked: RegistrationRequest, session: Session) -> None:
    offered: list[Verdict] = []
    final = Verdict.from_report(run(asked, session, notify=pytest.fail, offer=offered.append).report)
    assert [verdict.inputs["inverse_consistency_mm"] for verdict in offered] == [None]
    assert final.inputs["inverse_consistency_mm"] is not None
    assert offered[0].inputs == {**final.inputs, "inverse_consistency_mm": None}


def test_an_initial_transform_without_an_inverse_is_refused(asked: RegistrationRequest, tmp_path: Path) -> None:
    flat = tmp_path / "flat.h5"
    write_transform(flat, CompositeTransform((AffineTransform(np.diag([1.0, 1.0, 0.0, 1.0])),)))
    with pytest.raises(TransformError, match="give one that has an inverse"):
        run(replace(asked, initialize=None, initial_transform=str(flat)))


def test_an_initial_transform_that_mirrors_is_refused_at_once(asked: RegistrationRequest, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror.h5"
    write_transform(mirror, CompositeTransform((AffineTransform(np.diag([-1.0, 1.0, 1.0, 1.0])),)))
    with pytest.raises(TransformError, match="mirrors the image"):
        run(replace(asked, initialize=None, initial_transform=str(mirror)))
