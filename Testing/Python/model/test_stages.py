"""The loop of stages: what a pair gets does not depend on the batch that it is in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.geometry import Shape3
from dlir.model.multistage import MultiStageModel
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.model.stages import PairBatch, run_stages
from dlir.networks.spec import StageSpec
from dlir.transforms.lattice import Lattice

AFFINE = StageSpec("affine", (2.0, 2.0, 4.0), (4, 4))
COARSE = StageSpec("bspline", (2.0, 2.0, 4.0), (4, 4, 4), (8.0, 8.0, 4.0))
FINE = StageSpec("bspline", (1.0, 1.0, 4.0), (4, 4, 4), (4.0, 4.0, 4.0))
# Fixed and moving shapes.
SIZES: list[tuple[Shape3, Shape3]] = [
    ((5, 30, 26), (6, 24, 33)),
    ((8, 22, 40), (8, 22, 40)),
    ((5, 30, 26), (4, 31, 30)),
    ((4, 41, 17), (5, 20, 44)),
]


def make_model(*stages: StageSpec) -> MultiStageModel:
    """Untrained networks that move voxels by a fair part of what they may."""
    torch.manual_seed(len(stages))
    model = MultiStageModel(ModelSpec(Preprocessing((1.0, 1.0, 4.0)), stages)).requires_grad_(False)
    for network, stage in zip(model.networks, stages, strict=True):
        network.output.weight.mul_(40 if stage.kind == "bspline" else 120)  # type: ignore[operator, union-attr]
    return model


def blurred(shape: Shape3, seed: int) -> Tensor:
    """(z, y, x): noise that is smooth over a few voxels, between 0 and 1."""
    noise = torch.rand(1, 1, *(n + 8 for n in shape), generator=torch.manual_seed(seed))
    for _ in range(2):
        noise = F.avg_pool3d(noise, 5, 1)
    return (noise[0, 0] - noise.min()) / (noise.max() - noise.min())


def starts(sizes: Sequence[tuple[Shape3, Shape3]], *, turned: bool) -> Tensor:
    """(B, 4, 4): centres onto centres; where `turned`, the odd ones are turned a little besides."""
    matrices = torch.eye(4).repeat(len(sizes), 1, 1)
    for number, (fixed, moving) in enumerate(sizes):
        if turned and number % 2:
            matrices[number, :2, :2] = torch.tensor([[0.995, 0.0998], [-0.0998, 0.995]])
        here, there = ((torch.tensor(shape[::-1]) - 1) / 2 for shape in (fixed, moving))
        matrices[number, :3, 3] = there - matrices[number, :3, :3] @ here
    return matrices


def make_batch(model: MultiStageModel, members: Sequence[int], *, turned: bool = False) -> PairBatch:
    """Some of the pairs, padded to common shapes."""
    shapes = tuple(tuple(SIZES[k][role] for k in members) for role in (0, 1))
    images = []
    for role, some in enumerate(shapes):
        common = model.spec.padded_shape(tuple(max(s[axis] for s in some) for axis in range(3)))  # type: ignore[arg-type]
        padded = [
            F.pad(blurred(s, 2 * k + role), [v for a in (2, 1, 0) for v in (0, common[a] - s[a])])
            for k, s in zip(members, some, strict=True)
        ]
        images.append(torch.stack(padded)[:, None])
    spacing = torch.tensor([[1.0 + 0.1 * k, 1.0, 4.0] for k in members])
    return PairBatch(
        lambda stage: (model.pool(images[0], stage), model.pool(images[1], stage)),
        starts(SIZES, turned=turned)[list(members)],
        spacing,
        *shapes,
    )


def through(matrix: Tensor, lattice: Lattice) -> Tensor:
    """(3, z, y, x): the points of a lattice through a matrix (4, 4)."""
    return (lattice.points() @ matrix[:3, :3].T + matrix[:3, 3]).movedim(-1, 0)


@pytest.mark.parametrize("turned", [False, True], ids=["centred", "some turned"])
@pytest.mark.parametrize(
    "stages",
    [(AFFINE,), (FINE,), (COARSE, FINE), (AFFINE, COARSE, FINE)],
    ids=["affine", "one", "two", "affine and two"],
)
def test_a_pair_gets_the_same_alone_as_in_a_batch_of_unequal_sizes(stages: tuple[StageSpec, ...], turned: bool) -> None:
    model, last = make_model(*stages), len(stages) - 1
    with torch.no_grad():
        together = run_stages(model, make_batch(model, range(4), turned=turned), last)
    moved = 0.0
    for number, (shape, _) in enumerate(SIZES):
        with torch.no_grad():
            alone = run_stages(model, make_batch(model, [number], turned=turned), last)
        torch.testing.assert_close(together.affine[number], alone.affine[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(together.matrix[number], alone.matrix[0], rtol=0, atol=1e-3)
        assert len(together.splines) == len(alone.splines) == sum(stage.kind == "bspline" for stage in stages)
        for several, one in zip(together.predicted, alone.predicted, strict=True):
            (said,) = (some for some in several if number in some.members)
            own = said.coefficients[said.members.index(number)]
            torch.testing.assert_close(own, one[0].coefficients[0], rtol=0, atol=1e-3)
        for spline, own in zip(together.splines, alone.splines, strict=True):
            z, y, x = own.coefficients.shape[2:]
            torch.testing.assert_close(
                spline.coefficients[number, :, :z, :y, :x], own.coefficients[0], rtol=0, atol=1e-3
            )
            assert spline.coefficients[number].count_nonzero() == own.coefficients[0].count_nonzero()
        found, expected = (progressed.points(Lattice(shape)) for progressed in (together, alone))
        torch.testing.assert_close(found[number], expected[0], rtol=0, atol=5e-3)
        still = through(starts(SIZES, turned=turned)[number], Lattice(shape))
        moved = max(moved, float((expected[0] - still).abs().max()))
    assert moved > 1


def test_stages_run_up_to_the_last_that_is_asked_for_and_say_what_they_do() -> None:
    model, told = make_model(AFFINE, COARSE, FINE), []

    @contextmanager
    def timed(step: str, stage: int) -> Iterator[None]:
        told.append((step, stage))
        yield

    batch = make_batch(model, [0])
    with torch.no_grad():
        counts = [len(run_stages(model, batch, last, timed=timed).splines) for last in range(3)]
    assert counts == [0, 1, 2]
    assert told[-6:] == [(step, stage) for stage in range(3) for step in ("compose", "networks")]
    assert len(told) == 2 + 4 + 6


def test_no_stage_has_run_before_the_first() -> None:
    batch = make_batch(make_model(FINE), [0, 1])
    none = run_stages(make_model(FINE), batch, -1)
    assert not none.splines
    assert torch.equal(none.matrix, batch.start)
    points = none.points(Lattice((2, 3, 4)))
    torch.testing.assert_close(points, torch.stack([through(start, Lattice((2, 3, 4))) for start in batch.start]))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_stages_that_learn(checkpointing: bool) -> None:
    model = make_model(AFFINE, COARSE, FINE).requires_grad_(True)
    done = run_stages(
        model, make_batch(model, [0, 1, 2]), 2, learns=lambda stage: stage != 1, checkpointing=checkpointing
    )
    done.points(Lattice((4, 20, 16))).square().mean().backward()
    reached = [
        max((float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None), default=0.0)
        for network in model.networks
    ]
    assert reached[0] > 0
    assert reached[1] == 0
    assert reached[2] > 0
    assert np.isfinite(reached).all()
