"""What each similarity costs in an optimisation, by itself and in a whole step, on one thread.

    python Benchmarks/similarities.py [--rounds 9]

The fixed image is prepared before, as in a loop. By itself: the value, under a mask, and its gradient by the warped
image. A whole step: the field of a cubic spline with a control point at every eighth voxel, the moving image at where
it leads, the similarity where that lies inside, and the gradient by the coefficients; also without any similarity. In
turns, so that what else the machine does falls on all alike; medians of the time that this process computed. Prints
and keeps results/similarities.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from study import keep_tables, machine
from torch import Tensor

from dlir.geometry import Shape3
from dlir.losses.choices import Similarity
from dlir.losses.compared import Compared
from dlir.transforms.bspline import control_positions, evaluate_lattice, pad_coefficients
from dlir.transforms.lattice import Lattice, inside, lookup

SHAPES: tuple[Shape3, ...] = ((96, 96, 96), (16, 64, 64))
SPACING = 8
NONE = "none"

Step = Callable[[], Tensor]


def image_of(shape: Shape3, seed: int) -> Tensor:
    """Smooth blobs in [0, 1], with some noise."""
    noise = torch.rand(1, 1, *shape, generator=torch.manual_seed(seed))
    smooth = F.avg_pool3d(noise, 5, 1, 2, count_include_pad=False)
    return ((smooth - 0.5) * 6 + 0.5 + 0.05 * (noise - 0.5)).clamp(0, 1)


def alone(fixed: Tensor, moving: Tensor) -> dict[str, Step]:
    """Each similarity with its gradient by an image."""
    mask = torch.ones_like(fixed, dtype=torch.bool)
    mask[..., :3] = False

    def measured(name: Similarity) -> Step:
        compared, leaf = Compared(name, fixed), moving.clone().requires_grad_()
        return lambda: torch.autograd.grad(compared.to(leaf, mask).sum(), leaf)[0]

    return {name.value: measured(name) for name in Similarity}


def whole(fixed: Tensor, moving: Tensor) -> dict[str, Step]:
    """A step of an optimisation with each similarity, and with none."""
    shape: Shape3 = (fixed.shape[2], fixed.shape[3], fixed.shape[4])
    lattice = Lattice(shape)
    positions = [control_positions(along, SPACING) for along in lattice.positions()]
    size = [-(-n // SPACING) for n in shape]
    start = torch.randn(1, 3, *size, generator=torch.manual_seed(0))

    def measured(measure: Callable[[Tensor, Tensor], Tensor]) -> Step:
        leaf = start.clone().requires_grad_()

        def step() -> Tensor:
            field = evaluate_lattice(pad_coefficients(leaf), positions)
            target = lattice.displaced(field).movedim(1, -1)
            value = measure(lookup(moving, lattice, target), inside(lattice, target)[:, None])
            return torch.autograd.grad(value.sum(), leaf)[0]

        return step

    steps = {NONE: measured(lambda warped, mask: (warped * mask).sum())}
    return steps | {name.value: measured(Compared(name, fixed).to) for name in Similarity}


def times(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Milliseconds of each, median over the rounds after a first one."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            begin = time.process_time()
            step()
            found[name].append(1e3 * (time.process_time() - begin))
    return {name: median(values[1:]) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    sections = []
    for shape in SHAPES:
        fixed, moving = image_of(shape, 0), image_of(shape, 1)
        own, step = times(alone(fixed, moving), rounds), times(whole(fixed, moving), rounds)
        table = [["similarity", "ms", "times ncc", "ms of a whole step", "times ncc's"]]
        for name in (NONE, *own):
            by_itself = [f"{own[name]:.1f}", f"{own[name] / own['ncc']:.1f}"] if name in own else ["–", "–"]
            table.append([name, *by_itself, f"{step[name]:.1f}", f"{step[name] / step['ncc']:.1f}"])
        sections.append((" x ".join(map(str, shape[::-1])), table))
    notes = [
        f"Value and gradient under a mask, the fixed image prepared before; medians of {rounds} rounds in turns. "
        f"A whole step has a control point at every {SPACING}th voxel.",
        machine(),
    ]
    keep_tables("similarities", sections, notes)


if __name__ == "__main__":
    main()
