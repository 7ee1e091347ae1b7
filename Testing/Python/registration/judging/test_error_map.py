"""The error to expect: what tells of it, how that is weighed, and what a request and its report get of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from blobs import CENTER, FIXED, MOVING, Blobs, about, placed
from chains import random_bspline
from cli_runs import FIXED as BODY
from cli_runs import body, make_model
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.io.writing import write_image
from dlir.optimization.perturbed import COUNT, perturbations
from dlir.registration.choices import Budget, Kind
from dlir.registration.judging import error_map
from dlir.registration.judging.error_map import ONE_SHOT, OPTIMISED, Signs, describe_error, signs_of, structure_errors
from dlir.registration.loading import Loaded
from dlir.registration.optimising import Refinement
from dlir.registration.pipeline import run
from dlir.registration.request import Comparison, Outputs, RegistrationRequest
from dlir.registration.session import Session
from dlir.transforms.spatial import CompositeTransform
from grids import Array, make_grid

GRID = make_grid((9, 10, 11), (2.0, 2.0, 4.0))
SMALL = min(FIXED.spacing)
FEW = Refinement(Budget(steps=20), Kind.deformable, None, 0.0, False, lambda: False)


def _signs(values: Array, weights: tuple[float, ...], shows: Array | None = None) -> Signs:
    shows = np.ones(GRID.shape, bool) if shows is None else shows
    return Signs(np.asarray(values, np.float32), GRID, 2.5, shows, weights)


# -- how signs are weighed ----------------------------------------------------------------------------


def test_no_sign_makes_the_error_less() -> None:
    for weights in (ONE_SHOT, OPTIMISED):
        assert min(weights[1:]) >= 0
        assert max(weights[1:]) > 0
    assert (len(ONE_SHOT), len(OPTIMISED)) == (4, 5)


def test_signs_add_up_to_the_logarithm_of_the_error_in_samples() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, *GRID.shape))
    found = _signs(values, (0.3, 0.5, 0.2)).expected()
    np.testing.assert_allclose(found, 2.5 * np.exp(0.3 + 0.5 * values[0] + 0.2 * values[1]), rtol=1e-5)
    assert found.dtype == np.float32


def test_the_map_on_a_finer_grid_is_linear_between_the_samples() -> None:
    ramp = np.broadcast_to(np.log(np.arange(1, 12)), GRID.shape)
    signs = _signs(ramp[None], (0.0, 1.0))
    fine = GRID.with_spacing((1.0, 2.0, 4.0))
    found = signs.map_on(fine)
    assert found.shape == fine.shape
    inner = GRID.to_index(fine.voxel_centers())[..., 0].clip(0, 10)
    np.testing.assert_allclose(found, 2.5 * (1 + inner), rtol=1e-5)


def test_what_is_told_is_of_what_shows_something() -> None:
    shows = np.zeros(GRID.shape, bool)
    shows[:, :, :2] = True
    ramp = np.broadcast_to(np.log(np.arange(1, 12)), GRID.shape)[None]
    told = describe_error(_signs(ramp, (0.0, 1.0), shows))
    assert told == {"median_mm": pytest.approx(3.75), "p95_mm": pytest.approx(5.0)}
    nothing = describe_error(_signs(ramp, (0.0, 1.0), np.zeros(GRID.shape, bool)))
    assert nothing == {"median_mm": None, "p95_mm": None}


def test_structures_have_medians_by_name_else_by_value_and_layer() -> None:
    errors = np.arange(6, dtype=np.float32).reshape(1, 1, 6)
    first, second = np.array([[[1, 1, 1, 2, 2, 0]]]), np.array([[[0, 0, 0, 0, 7, 7]]])
    assert structure_errors(errors, [first], {(0, 2): "liver"}) == {"1": 1.0, "liver": 3.5}
    assert structure_errors(errors, [first, second], {(0, 1): "left"}) == {"left": 1.0, "0/2": 3.5, "1/7": 4.5}


# -- what tells of it ---------------------------------------------------------------------------------


def _compared(fixed: Array, image: Array) -> tuple[Array, Array]:
    tensors = [torch.from_numpy(one).float()[None, None] for one in (fixed, image)]
    likeness, precision = error_map._compared(*tensors, torch.ones_like(tensors[0]), GRID, 2.5)
    return likeness[0, 0].numpy(), precision[0, 0].numpy()


def test_images_that_are_alike_are_so_whatever_their_brightness() -> None:
    image = np.random.default_rng(1).uniform(size=GRID.shape)
    same, _ = _compared(image, 0.3 + 0.5 * image)
    assert same.min() > 0.99
    other, _ = _compared(image, np.random.default_rng(2).uniform(size=GRID.shape))
    assert np.abs(other).mean() < 0.5


def test_noise_and_flatness_make_places_less_exact() -> None:
    z, y, x = np.indices(GRID.shape)
    edges = 0.5 + 0.2 * np.sin(x) + 0.2 * np.sin(y) + 0.1 * np.sin(2 * z)
    noise = np.random.default_rng(3).normal(size=GRID.shape)
    _, sharp = _compared(edges, edges + 0.01 * noise)
    _, noisy = _compared(edges, edges + 0.05 * noise)
    _, flat = _compared(0.1 * edges, 0.1 * edges + 0.01 * noise)
    assert np.median(noisy) > 2 * np.median(sharp)
    assert np.median(flat) > 1.5 * np.median(sharp)


def test_perturbations_are_small_known_and_the_same_each_time() -> None:
    found, again = (perturbations(FIXED, 3.0) for _ in range(2))
    places = FIXED.voxel_centers().reshape(-1, 3)
    assert len(found) == COUNT
    for one, other in zip(found, again, strict=True):
        moved = np.linalg.norm(one.apply(places) - places, axis=1)
        np.testing.assert_array_equal(one.apply(places), other.apply(places))
        assert 0.5 < np.median(moved) < 9.0
        assert moved.max() < 12.0
        assert one.determinant(places).min() > 0.2


# -- of a pair ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half() -> tuple[Loaded, CompositeTransform]:
    """Blobs moved by a field, of which one half of the moving image is nothing but noise; and the way they went."""
    control = about(CENTER, make_grid((8, 8, 9), (20.0, 20.0, 20.0)))
    field = random_bspline(np.random.default_rng(3), control, fraction=0.2)
    blobs, known = Blobs(), CompositeTransform((field,))
    fixed = blobs.seen(FIXED, known.apply)
    moving = blobs.seen(MOVING)
    lost = MOVING.voxel_centers()[..., 0] > MOVING.center[0]
    noise = np.random.default_rng(0).normal(60, 30, MOVING.shape)
    array = np.where(lost, noise, moving.array).astype(np.float32)
    return Loaded(fixed, Volume(array, MOVING, "half lost"), initial=placed()), known


@pytest.mark.slow
def test_the_map_is_high_where_nothing_can_be_found(half: tuple[Loaded, CompositeTransform]) -> None:
    loaded, known = half
    result = FEW.alone(loaded, torch.device("cpu"))
    signs = signs_of(loaded, result, None)
    found = signs.map_on(FIXED)
    assert found.shape == FIXED.shape
    assert np.isfinite(found).all()
    assert found.min() > 0
    lost = known.apply(FIXED.voxel_centers().reshape(-1, 3))[:, 0].reshape(FIXED.shape) > MOVING.center[0]
    inner = (slice(4, -4),) * 3
    assert np.median(found[inner][lost[inner]]) > 1.5 * np.median(found[inner][~lost[inner]])


def test_without_a_model_or_an_optimisation_there_is_nothing_to_tell(half: tuple[Loaded, CompositeTransform]) -> None:
    loaded, _ = half
    result = replace(FEW.alone(loaded, torch.device("cpu")), optimising=None)
    with pytest.raises(ValueError, match="with that model"):
        signs_of(loaded, result, None)


# -- of a request -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def asked(tmp_path: Path, model: Path) -> Callable[..., RegistrationRequest]:
    other = ImageGrid((15, 24, 23), (2.2, 2.0, 2.7), tuple(BODY.origin))
    images = []
    for name, grid, shift in (("fixed", BODY, 0.0), ("moving", other, 3.0)):
        write_image(tmp_path / f"{name}.nrrd", body(grid, BODY.center, shift), grid)
        drawn = (body(grid, BODY.center, shift) > 60).astype(np.uint8)
        write_image(tmp_path / f"{name}_label.nrrd", drawn, grid)
        images.append(str(tmp_path / f"{name}.nrrd"))

    def ask(**changes: object) -> RegistrationRequest:
        plain = {"model": str(model), "device": "cpu", "moving_labels": (str(tmp_path / "moving_label.nrrd"),)}
        return RegistrationRequest(*images, Outputs(str(tmp_path / "out")), **{**plain, **changes})  # type: ignore[arg-type]

    return ask


def test_a_request_gets_the_map_and_its_figures(asked: Callable[..., RegistrationRequest]) -> None:
    done = run(asked(error_map=True), Session())
    image = sitk.ReadImage(done.files["error_map"])
    assert ImageGrid.from_sitk(image).same_as(BODY)
    values = sitk.GetArrayFromImage(image)
    assert values.dtype == np.float32
    told = json.loads(Path(done.files["report"]).read_text())["error_map"]
    assert told["median_mm"] <= told["p95_mm"]
    carried = done.propagated.after[0] == 1
    assert told["structures"] == {"1": pytest.approx(float(np.median(values[carried])), abs=1e-3)}
    assert done.report["seconds"]["error map"] > 0


def test_who_does_not_ask_gets_none(asked: Callable[..., RegistrationRequest]) -> None:
    done = run(asked(), Session())
    assert "error_map" not in done.files
    assert "error_map" not in done.report
    assert "error map" not in done.report["seconds"]


def test_arrays_have_the_same_map_and_names(asked: Callable[..., RegistrationRequest]) -> None:
    request = asked(error_map=True)
    files = run(request, Session())
    label = request.fixed if isinstance(request.fixed, str) else ""
    arrays = run(
        replace(
            request,
            outputs=Outputs(f"{request.outputs.folder}_arrays", "arrays"),
            fixed_labels=(label.replace("fixed.nrrd", "fixed_label.nrrd"),),
            comparisons=(Comparison("belly", 0, 1, 0, 1),),
        ),
        Session(),
    )
    written = sitk.GetArrayFromImage(sitk.ReadImage(files.files["error_map"]))
    np.testing.assert_array_equal(np.load(arrays.files["error_map"]), written)
    assert arrays.report["error_map"]["structures"].keys() == {"belly"}


@pytest.mark.slow
def test_without_a_model_a_request_gets_it_too(asked: Callable[..., RegistrationRequest]) -> None:
    done = run(asked(error_map=True, model="none", refine="5it"), Session())
    assert done.result.error_map is not None
    assert np.isfinite(done.result.error_map).all()
