"""Time and memory of large synthetic CT pairs at 2 mm working resolution: linear in voxels, under 6 GB.

    python Benchmarks/scaling.py [--slices 100 200 400]

An untrained model of the paper's chest design (Table 3) registers 512x512 slices of 0.7x0.7x1 mm; each size runs
in a process of its own, so that its peak memory is its own. Prints and keeps results/scaling.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

import numpy as np
import torch
from study import keep_tables, machine, peak_bytes

from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.model.multistage import MultiStageModel
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec
from dlir.registration.oneshot import Registration

CHANNELS = 32
ROWS = 512
SPACING = (0.7, 0.7, 1.0)


def chest_model() -> MultiStageModel:
    """Table 3, untrained: its time and memory do not depend on the weights."""
    deformable = [StageSpec("bspline", (r, r, r), (CHANNELS,) * 4, (8 * r,) * 3, "strided") for r in (8.0, 4.0, 2.0)]
    affine = StageSpec("affine", (8.0, 8.0, 8.0), (CHANNELS,) * 3, pooling="strided")
    preprocessing = Preprocessing((2.0, 2.0, 2.0), window=(-1000.0, 3095.0))
    torch.manual_seed(0)
    model = MultiStageModel(ModelSpec(preprocessing, (affine, *deformable)))
    return model.requires_grad_(False).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]


def phantom(slices: int, shift: float) -> Volume:
    """A smooth body in air, in Hounsfield units."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (slices, ROWS, ROWS)), indexing="ij")
    body = 1000 / (1 + np.exp(20 * ((x - shift) ** 2 + y**2 + 0.5 * z**2 - 0.6)))
    return Volume(
        body - 1000 + 100 * np.sin(12 * x) * np.cos(9 * y + 5 * z), ImageGrid((slices, ROWS, ROWS), SPACING), ""
    )


def measure(slices: int, threads: int) -> tuple[float, int, dict[str, float]]:
    """Seconds, peak bytes and split of one registration."""
    torch.set_num_threads(threads)
    fixed, moving = phantom(slices, 0.0), phantom(slices, 0.02)
    registration = Registration(chest_model(), torch.device("cpu"))
    start = time.perf_counter()
    result = registration(fixed, moving)
    seconds = time.perf_counter() - start
    return seconds, peak_bytes(), result.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    context = multiprocessing.get_context("spawn")
    lines = [["size", "time (s)", "µs per voxel", "peak memory (MiB)", "time by step (s)"]]
    for slices in options.slices:
        with context.Pool(1) as pool:
            seconds, peak, split = pool.apply(measure, (slices, options.threads))
        shares = ", ".join(f"{name} {value:.1f}" for name, value in split.items())
        per_voxel = 1e6 * seconds / (ROWS * ROWS * slices)
        size = f"{ROWS}x{ROWS}x{slices}"
        lines.append([size, f"{seconds:.1f}", f"{per_voxel:.3f}", f"{peak / 2**20:.0f}", shares])
        print(*lines[-1], flush=True)
    keep_tables("scaling", [("One registration", lines)], ["Table 3's chest design, untrained.", machine()])


if __name__ == "__main__":
    main()
