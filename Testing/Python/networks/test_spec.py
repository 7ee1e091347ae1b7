"""StageSpec: what follows from its numbers, and the numbers it refuses."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

from dlir.errors import ModelError
from dlir.networks.dir import DeformableNetwork
from dlir.networks.spec import StageSpec

CINE: dict[str, Any] = {
    "kind": "bspline", "resolution": (1.5, 1.5, 8.0), "grid_spacing": (12.0, 12.0, 8.0), "channels": (8, 8, 8, 8)
}  # fmt: skip


def bspline(halvings: tuple[int, int, int], pooling: str = "average", channels: int = 1) -> StageSpec:
    """A stage of 1 mm voxels and 2**halvings voxels between control points."""
    x, y, z = (float(2**n) for n in halvings)
    return StageSpec("bspline", (1, 1, 1), (channels,) * (max(halvings) + 1), (x, y, z), pooling)


# -- what follows ------------------------------------------------------------------------------------


def test_a_stage_of_table_1() -> None:
    """Cine: in-plane downsampling only."""
    spec = StageSpec(**CINE)
    assert spec.downsamplings == (3, 3, 0)
    assert spec.levels == 3
    assert spec.spacing_voxels == (8, 8, 1)
    assert spec.strides() == [(2, 2, 1)] * 3


def test_the_axis_with_fewer_halvings_is_halved_last() -> None:
    spec = bspline((3, 2, 1))
    assert spec.strides() == [(2, 1, 1), (2, 2, 1), (2, 2, 2)]
    assert spec.spacing_voxels == (8, 4, 2)


def test_an_affine_stage_halves_every_axis_at_every_level() -> None:
    spec = StageSpec("affine", (2, 2, 2), (4, 8, 16))
    assert spec.strides() == [(2, 2, 2)] * 3
    assert spec.spacing_voxels == (8, 8, 8)


def test_rounded_lengths_are_close_enough() -> None:
    assert StageSpec("bspline", (0.7, 0.7, 0.7), (4, 4, 4), (2.803, 2.8, 2.797)).spacing_voxels == (4, 4, 4)


@pytest.mark.parametrize(
    "spec", [StageSpec(**CINE), StageSpec("affine", (2, 2, 2), (4, 8)), StageSpec(**CINE | {"max_displacement": None})]
)
def test_dictionary_goes_through_json_and_back(spec: StageSpec) -> None:
    assert StageSpec.from_dict(json.loads(json.dumps(asdict(spec)))) == spec


# -- the receptive field -----------------------------------------------------------------------------


def measured_field(spec: StageSpec) -> tuple[int, ...]:
    """Extent along (x, y, z) of the input voxels that one output of the network depends on."""
    network = DeformableNetwork(spec).double()
    for weights in network.parameters():  # positive, so that no two paths cancel
        torch.nn.init.constant_(weights, 0.0 if weights.dim() == 1 else 0.01)
    # Every cell away from the border: an image of two receptive fields.
    size = [-(-2 * f // s) * s for f, s in zip(spec.receptive_field, spec.spacing_voxels, strict=True)]
    pair: Tensor = torch.ones(1, 2, *size[::-1], dtype=torch.float64, requires_grad=True)
    output = network(pair)
    z, y, x = (n // 2 for n in output.shape[2:])
    output[0, 0, z, y, x].backward()
    assert pair.grad is not None
    seen = torch.nonzero(pair.grad[0].amax(0))
    first, last = seen.amin(0), seen.amax(0)
    assert (first > 0).all()
    assert (last < torch.tensor(pair.shape[2:]) - 1).all()
    return tuple((last - first + 1).flip(0).tolist())


@pytest.mark.parametrize("pooling", ["average", "strided"])
@pytest.mark.parametrize("halvings", [(0, 0, 0), (1, 1, 1), (2, 2, 0), (2, 1, 0), (3, 3, 1), (2, 2, 2)])
def test_receptive_field_is_the_one_measured(halvings: tuple[int, int, int], pooling: str) -> None:
    spec = bspline(halvings, pooling)
    assert measured_field(spec) == spec.receptive_field
    assert all(f >= 4 * s for f, s in zip(spec.receptive_field, spec.spacing_voxels, strict=True))


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "rigid"}, "kind 'rigid' is unknown"),
        ({"pooling": "max"}, "pooling 'max' is unknown"),
        ({"channels": ()}, "channels"),
        ({"channels": (8, 8, 0, 8)}, "channels"),
        ({"channels": (8, 8, 8)}, "3 downsamplings needs 4 channel numbers"),
        ({"channels": (8, 8, 8, 8, 8)}, "3 downsamplings needs 4 channel numbers"),
        ({"resolution": (1.5, 1.5)}, "three positive lengths"),
        ({"resolution": (1.5, 0.0, 8.0)}, "three positive lengths"),
        ({"resolution": (1.5, float("nan"), 8.0)}, "three positive lengths"),
        ({"resolution": (1.5, float("inf"), 8.0)}, "three positive lengths"),
        ({"grid_spacing": None}, "needs a grid_spacing"),
        ({"grid_spacing": (12.0, 12.0)}, "needs a grid_spacing"),
        ({"grid_spacing": (12.0, 12.0, 6.0)}, "not a power of two"),
        ({"grid_spacing": (12.0, 12.0, 4.0)}, "not a power of two"),
        ({"grid_spacing": (12.0, 9.0, 8.0)}, "not a power of two"),
        ({"grid_spacing": (12.0, float("nan"), 8.0)}, "not a power of two"),
        ({"grid_spacing": (12.0, 0.0, 8.0)}, "not a power of two"),
        ({"max_displacement": 0.0}, "max_displacement must be positive"),
        ({"max_displacement": -0.4}, "max_displacement must be positive"),
    ],
)
def test_inconsistent_numbers_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        StageSpec(**CINE | changes)
    assert "\n" not in str(caught.value)


def test_a_receptive_field_below_four_spacings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No combination of halvings gives one with the networks as they are; the check guards their changes."""
    monkeypatch.setattr(StageSpec, "receptive_field", (31, 54, 7))
    with pytest.raises(ModelError, match="receptive field"):
        StageSpec(**CINE)


@pytest.mark.parametrize(
    "values", [{"kind": "bspline"}, CINE | {"colour": "red"}, CINE | {"channels": "8888"}, CINE | {"resolution": 1.5}]
)
def test_a_dictionary_that_is_no_stage_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="stage specification is not valid"):
        StageSpec.from_dict(values)
