"""Time one whole 256x256x12 cine pair with DLIR and with elastix, alternating in one run.

    python Benchmarks/speed.py --data ACDC [--repetitions 3]

From arrays in memory to warped volume, transform and Jacobian, the model warm. Prints medians: the split of DLIR's
time, the floor (its convolutions alone, on the same inputs), peak memory, the ratio to elastix, and how long the
command line takes to show its help. Needs the bench extra unless --no-elastix.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from acdc import read_frames, resized
from torch import Tensor, nn

from dlir.io.reading import Volume
from dlir.model.catalogue import resolve_model
from dlir.model.file import load_model
from dlir.model.multistage import MultiStageModel
from dlir.registration.oneshot import Registration

# DLIR registrations for each one of elastix, whose single time is steadier.
RUNS_PER_ELASTIX = 5


def record_convolutions(model: MultiStageModel) -> tuple[list[tuple[nn.Module, Tensor]], list[Any]]:
    """Hooks that keep every convolution of a pass with a copy of its input, and their handles."""
    seen: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((module, inputs[0].clone(memory_format=torch.preserve_format)))

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv3d)]
    return seen, [layer.register_forward_hook(keep) for layer in layers]


def time_convolutions(convolutions: list[tuple[nn.Module, Tensor]]) -> float:
    """Seconds of the convolutions alone."""
    with torch.inference_mode():
        start = time.perf_counter()
        for module, image in convolutions:
            module(image)
        return time.perf_counter() - start


def print_split(splits: list[dict[str, float]], totals: list[float], floors: list[float]) -> None:
    """One line per step: median milliseconds and share of the total."""
    total, floor = statistics.median(totals), statistics.median(floors)
    print(f"{'step':<12}{'ms':>8}{'share':>8}   median of {len(totals)}")
    for name in splits[0]:
        median = statistics.median(split[name] for split in splits)
        print(f"{name:<12}{1000 * median:>8.0f}{median / total:>8.0%}")
    print(f"{'total':<12}{1000 * total:>8.0f}   {min(totals) * 1000:.0f} to {max(totals) * 1000:.0f}")
    ratio = statistics.median(t / f for t, f in zip(totals, floors, strict=True))
    print(f"{'floor':<12}{1000 * floor:>8.0f}   the convolutions alone; total / floor = {ratio:.2f}")


def time_help() -> float:
    """Median seconds, on the clock, of `dlir --help` in a process of its own."""
    seconds = []
    for _ in range(RUNS_PER_ELASTIX):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dlir", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds patient100")
    parser.add_argument("--model", default="cardiac-cine", help="name or file")
    parser.add_argument("--repetitions", type=int, default=3, help="elastix runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-elastix", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    frames = read_frames(options.data, "100")
    fixed, moving = resized(frames["ED"]), resized(frames["ES"])
    volumes = [Volume(frame.intensity, frame.grid, role) for frame, role in ((fixed, "fixed"), (moving, "moving"))]
    registration = Registration(load_model(resolve_model(options.model))[0], torch.device("cpu"))
    for _ in range(3):
        registration(volumes[0], volumes[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    convolutions, hooks = record_convolutions(registration.model)
    registration(volumes[0], volumes[1])
    for hook in hooks:
        hook.remove()
    splits, totals, floors, others = [], [], [], []
    for repetition in range(options.repetitions):
        for _ in range(RUNS_PER_ELASTIX):
            start = time.perf_counter()
            result = registration(volumes[0], volumes[1])
            totals.append(time.perf_counter() - start)
            splits.append(result.seconds)
            floors.append(time_convolutions(convolutions))
        if not options.no_elastix:
            import elastix_baseline

            others.append(elastix_baseline.register(fixed, moving, bending_energy=False).seconds)
            print(f"elastix run {repetition + 1}: {others[-1]:.1f} s", flush=True)
    print(f"\n256x256x12 pair, {options.threads} threads, {torch.__version__}")
    print_split(splits, totals, floors)
    print(f"peak memory  {peak:.0f} MiB, the whole process, before elastix is loaded")
    if others:
        ratio = statistics.median(others) / statistics.median(totals)
        print(f"elastix      {statistics.median(others):.1f} s, {ratio:.0f} times as long")
    print(f"dlir --help  {time_help():.2f} s")


if __name__ == "__main__":
    main()
