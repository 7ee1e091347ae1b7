"""How long Slicer's windows stand still during a registration, and how much longer it takes than the core alone.

    python Benchmarks/panel_latency.py [--size X Y Z] [--repetitions 5] [--threads 2]

Registers the sample pair (with the segmentation and its scores) and a synthetic pair of --size in a real MRML scene
through the worker process, ticked as by the panel's timer. Prints the longest tick of each step, and for the sample the
ratio of the second registration, from start to nodes, to the core's own time for the same pair. Needs slicer-core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Testing" / "Python"))

from dlir.geometry import ImageGrid
from dlir.io import read_image, read_label
from dlir.model.catalogue import resource_folder
from DLIRRegistrationLib.registration.requests import MaskInput, OutputSelection, RegistrationInputs
from DLIRRegistrationLib.registration.run import Run
from DLIRRegistrationLib.worker.client import WorkerClient
from mrml import MRML
from segments import segmentation

if TYPE_CHECKING:
    from DLIRRegistrationLib.registration.requests import RegistrationNodes

# The panel's timer.
TICK_SECONDS = 0.02
LIMIT_MS = 100
# Steps of the registration itself; the rest is reading, labels, figures and writing.
CORE_STEPS = ("preprocess", "networks", "compose", "resample", "jacobian")


class Clock:
    """Times ticks, and remembers the longest of each step: on the clock, and at work, without waiting for a core."""

    def __init__(self) -> None:
        self.longest: dict[str, tuple[float, float]] = {}
        self._step = "start"

    def told(self, step: str, fraction: float) -> None:
        self._step = step

    def time(self, action: Callable[[], None]) -> None:
        start, work = time.perf_counter(), time.thread_time()
        action()
        spent = (time.perf_counter() - start, time.thread_time() - work)
        before = self.longest.get(self._step, (0.0, 0.0))
        self.longest[self._step] = (max(before[0], spent[0]), max(before[1], spent[1]))

    def print(self, name: str) -> None:
        clock, work = (1000 * max(times) for times in zip(*self.longest.values(), strict=True))
        print(f"{name}: longest tick {clock:.0f} ms ({work:.0f} ms at work) of {LIMIT_MS} allowed")
        for step, (seconds, busy) in sorted(self.longest.items(), key=lambda item: -item[1][0])[:5]:
            print(f"  {step:<24}{1000 * seconds:>6.0f} ms{1000 * busy:>6.0f} ms at work")


def timed_run(inputs: RegistrationInputs, worker: WorkerClient, clock: Clock) -> RegistrationNodes:
    """One registration with everything that is made by default."""
    run = Run(inputs, OutputSelection(), worker)
    clock.time(lambda: run.start(on_progress=clock.told))
    while run.active:
        time.sleep(TICK_SECONDS)
        clock.time(run.poll)
    if run.error is not None:
        raise run.error
    assert run.result is not None  # it has ended
    return run.result


def core_seconds(result: RegistrationNodes) -> float:
    return sum(result.report["seconds"].get(step, 0.0) for step in CORE_STEPS)


def sample_inputs(mrml: MRML, *, segment: bool) -> RegistrationInputs:
    folder = resource_folder("SampleData")
    volumes, drawn = [], []
    for name in ("fixed_ed", "moving_es"):
        image = read_image(folder / f"{name}.nrrd")
        volumes.append(mrml.volume(image.array, image.grid, name))
        label = read_label(folder / f"{name}_label.nrrd", image)
        drawn.append(segmentation(mrml, {"cavity": label.array > 0}, image.grid, f"{name} drawn"))
    if not segment:
        return RegistrationInputs(*volumes)
    return RegistrationInputs(*volumes, segmentations=(drawn[1],), fixed_segmentation=drawn[0])


def synthetic_inputs(mrml: MRML, size: tuple[int, int, int]) -> RegistrationInputs:
    """Blocks of noise within a ball, 16-bit; the ball is drawn on the moving one, and a mask on both."""
    x, y, z = size
    grid = ImageGrid((z, y, x), (0.7, 0.7, 1.5))
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 800, (z // 8 + 2, y // 16 + 2, x // 16 + 2)).astype(np.int16)
    noise = coarse.repeat(8, 0).repeat(16, 1).repeat(16, 2)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in grid.shape]
    ball = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2 < 0.8
    volumes = [
        mrml.volume(np.where(ball, noise[shift : z + shift, shift : y + shift, :x], 0).astype(np.int16), grid, name)
        for shift, name in ((0, "fixed"), (3, "moving"))
    ]
    drawn = segmentation(mrml, {"ball": ball}, grid)
    mask = MaskInput(drawn, "ball")
    return RegistrationInputs(*volumes, fixed_mask=mask, moving_mask=mask, segmentations=(drawn,))


def measure_sample(mrml: MRML, worker: WorkerClient, repetitions: int) -> None:
    """Ticks and ratio, without and with all that the report can have."""
    for name, segment in (("sample", False), ("sample with segmentation and scores", True)):
        inputs, clock = sample_inputs(mrml, segment=segment), Clock()
        timed_run(inputs, worker, Clock())
        results = [timed_run(inputs, worker, clock) for _ in range(repetitions)]
        clock.print(name)
        total = 1000 * statistics.median(result.seconds for result in results)
        core = 1000 * statistics.median(core_seconds(result) for result in results)
        print(
            f"  start to nodes {total:.0f} ms, core {core:.0f} ms: ratio {total / core:.2f}, medians of {repetitions}"
        )
        for step, seconds in results[-1].report["seconds"].items():
            print(f"    {step:<12}{1000 * seconds:>6.0f} ms")
        mrml.scene.Clear()


def measure_synthetic(mrml: MRML, worker: WorkerClient, size: tuple[int, int, int]) -> None:
    clock = Clock()
    result = timed_run(synthetic_inputs(mrml, size), worker, clock)
    clock.print(f"synthetic pair of {' x '.join(map(str, size))}, {result.seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 200), metavar=("X", "Y", "Z"))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    mrml = MRML()
    limits = dict.fromkeys(("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), str(options.threads))
    worker = WorkerClient(sys.executable, limits)
    try:
        measure_sample(mrml, worker, options.repetitions)
        measure_synthetic(mrml, worker, tuple(options.size))
    finally:
        worker.close()
        mrml.close()


if __name__ == "__main__":
    main()
