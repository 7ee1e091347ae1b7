"""Models as methods: whole, and up to each stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cli_runs import make_model
from dlir.evaluation.methods.base import before_shift, settings_digest
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.methods.network import NetworkMethod, stage_names
from dlir.evaluation.report.examples import stages_of
from dlir.io.reading import Volume
from dlir.model.file import load_model
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec
from dlir.registration.loading import Loaded
from dlir.registration.oneshot import Registration
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from evaluation_runs import GRID, body

CPU = torch.device("cpu")
START = CompositeTransform((AffineTransform.translation([4.0, 1.0, -3.0]),))


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def task(start: CompositeTransform = START) -> Loaded:
    images = [Volume(body(GRID, np.full(3, shift)), GRID, name) for shift, name in ((0.0, "f"), (2.0, "m"))]
    return Loaded(images[0], images[1], start)


def test_a_model_gives_what_its_registration_gives(model_file: Path) -> None:
    method = NetworkMethod(model_file, CPU)
    found = method.register(task())
    expected = Registration(load_model(model_file)[0], CPU)(task().fixed, task().moving, START).transform
    points = GRID.voxel_centers().reshape(-1, 3)[::37]
    np.testing.assert_allclose(found.transform.apply(points), expected.apply(points), atol=1e-6)
    assert found.seconds is not None
    assert found.seconds > 0
    assert method.name == "DLIR tiny"


def test_up_to_a_stage_is_the_start_of_the_whole_chain(model_file: Path) -> None:
    whole = NetworkMethod(model_file, CPU).register(task()).transform
    first = NetworkMethod(model_file, CPU, stages=1, name="mine")
    assert (first.name, first.stages) == ("mine DIR-1", ["DIR-1"])
    part = first.register(task()).transform
    points = GRID.voxel_centers().reshape(-1, 3)[::37]
    steps = stages_of(whole, START, ["DIR-1", "DIR-2"])
    np.testing.assert_allclose(steps["DIR-1"].apply(points), part.apply(points), atol=1e-5)
    np.testing.assert_allclose(steps["DIR-2"].apply(points), whole.apply(points), atol=1e-12)
    assert np.abs(part.apply(points) - whole.apply(points)).max() > 0.1


def test_a_chain_with_a_stage_missing_is_not_taken_apart(model_file: Path) -> None:
    whole = NetworkMethod(model_file, CPU).register(task()).transform
    assert stages_of(whole, START, ["AIR", "DIR-1", "DIR-2"]) == {}


def test_the_same_model_has_the_same_settings_whatever_its_name(model_file: Path) -> None:
    digests = [settings_digest(NetworkMethod(model_file, CPU, stages=k, name=n)) for k, n in ((None, "a"), (2, "b"))]
    assert digests[0] == digests[1] != settings_digest(NetworkMethod(model_file, CPU, stages=1))
    assert settings_digest(Identity()) not in digests


def test_stages_are_called_as_in_the_paper() -> None:
    deformable = [StageSpec("bspline", (r, r, r), (1, 1, 1), (4 * r,) * 3) for r in (4.0, 2.0)]
    affine = StageSpec("affine", (8, 8, 8), (1,))
    preprocessing = Preprocessing((2.0, 2.0, 2.0))
    assert stage_names(ModelSpec(preprocessing, (affine, *deformable))) == ["AIR", "DIR-1", "DIR-2"]
    assert stage_names(ModelSpec(preprocessing, tuple(deformable))) == ["DIR-1", "DIR-2"]


def test_moving_an_image_is_moving_its_points() -> None:
    """For methods that know no start: the shifted image, and then the shift, are the image through the start."""
    moved, shift = before_shift(task())
    onto = GRID
    directly = resample(task().moving.array, GRID, START, onto)
    np.testing.assert_allclose(resample(moved.array, moved.grid, CompositeTransform(()), onto), directly, atol=1e-2)
    np.testing.assert_array_equal(shift.matrix, START.matrix)
    assert before_shift(task(CompositeTransform(())))[1].parts == ()


def test_before_is_where_everything_starts() -> None:
    found = Identity().register(task())
    assert found.transform is not None
    assert found.transform.parts == START.parts
    assert found.seconds is None
