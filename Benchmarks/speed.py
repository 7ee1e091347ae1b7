"""Accuracy, time and memory on one whole 256x256x12 cine pair: DLIR, elastix and SyN in turn.

    python Benchmarks/speed.py --data ACDC [--rounds 3] [--peers elastix syn]

From arrays in memory to warped volume, transform and Jacobian, the model warm. Every method lives in a process of its
own, so that its peak memory is its own, and the processes take turns. Prints and keeps results/speed.md: medians and
their ratios; the split of DLIR's time, and its floor (the convolutions alone, on the same inputs); how long the command
line takes to show its help. Needs the eval and bench extras.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from acdc import LARGE_SIZE, large_pair
from designs import CINE, CINE_MULTI
from study import keep_tables, machine, peak_bytes
from torch import Tensor, nn

from dlir.evaluation.methods.base import Method
from dlir.evaluation.methods.elastix import ElastixMethod
from dlir.evaluation.methods.syn import SynMethod
from dlir.evaluation.scoring import LoadedPair, label_scores
from dlir.model.catalogue import resolve_model
from dlir.model.file import load_model
from dlir.model.multistage import MultiStageModel
from dlir.registration.oneshot import Registration
from dlir.transforms.spatial import CompositeTransform

# DLIR registrations for each one of the others, whose single times are steadier.
RUNS = 5
DLIR = "DLIR"
PEERS: Mapping[str, Method] = {"elastix": ElastixMethod("SE multi", CINE_MULTI, CINE), "syn": SynMethod()}


@dataclass
class Turn:
    """What a method did in one turn.

    seconds: of each run. dice: by structure, of the last run. peak: bytes, of the process so far. splits, floors:
    seconds of each run's steps and of the convolutions alone, for DLIR.
    """

    seconds: list[float]
    dice: dict[str, float]
    peak: int
    splits: list[dict[str, float]] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)


class Contender(Protocol):
    """A method in its process."""

    def turn(self) -> Turn: ...


class Peer:
    """One run a turn."""

    def __init__(self, method: Method, pair: LoadedPair) -> None:
        self._method, self._pair = method, pair

    def turn(self) -> Turn:
        found = self._method.register(self._pair.task)
        peak = peak_bytes()
        assert found.seconds is not None  # these methods always do something
        return Turn([found.seconds], dice_of(self._pair, found.transform), peak)


class Network:
    """A model, warm: several runs a turn, the convolutions alone after each."""

    def __init__(self, path: Path, pair: LoadedPair) -> None:
        self._pair = pair
        self._registration = Registration(load_model(path)[0], torch.device("cpu"))
        for _ in range(3):
            self._run()
        self._peak = peak_bytes()
        self._convolutions = self._recorded()

    def _run(self) -> tuple[CompositeTransform, dict[str, float]]:
        task = self._pair.task
        result = self._registration(task.fixed, task.moving, task.start)
        return result.transform, result.seconds

    def _recorded(self) -> list[tuple[nn.Module, Tensor]]:
        """Every convolution of a run with a copy of its input."""
        seen: list[tuple[nn.Module, Tensor]] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.append((module, inputs[0].clone(memory_format=torch.preserve_format)))

        model: MultiStageModel = self._registration.model
        hooks = [layer.register_forward_hook(keep) for layer in model.modules() if isinstance(layer, nn.Conv3d)]
        self._run()
        for hook in hooks:
            hook.remove()
        return seen

    def turn(self) -> Turn:
        turn = Turn([], {}, self._peak)
        for _ in range(RUNS):
            start = time.perf_counter()
            transform, split = self._run()
            turn.seconds.append(time.perf_counter() - start)
            turn.splits.append(split)
            turn.floors.append(self._floor())
        turn.dice = dice_of(self._pair, transform)
        return turn

    def _floor(self) -> float:
        with torch.inference_mode():
            start = time.perf_counter()
            for module, image in self._convolutions:
                module(image)
            return time.perf_counter() - start


def dice_of(pair: LoadedPair, transform: CompositeTransform) -> dict[str, float]:
    """Dice by structure."""
    return {name: scores.dice for name, scores in label_scores(pair, transform).items()}


# -- processes ----------------------------------------------------------------------------------------

_contender: Contender


def enter(name: str, data: Path, model: str, threads: int) -> None:
    """Makes this process a method's own."""
    global _contender
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    pair = large_pair(data)
    _contender = Network(resolve_model(model), pair) if name == DLIR else Peer(PEERS[name], pair)


def take_turn() -> Turn:
    return _contender.turn()


def compete(options: argparse.Namespace) -> dict[str, list[Turn]]:
    """Every method's turns, one after the other in each round."""
    names = [DLIR, *options.peers]
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        entered = (options.data, options.model, options.threads)
        pools = {
            name: stack.enter_context(ProcessPoolExecutor(1, context, initializer=enter, initargs=(name, *entered)))
            for name in names
        }
        for number in range(options.rounds):
            for name, pool in pools.items():
                turns[name].append(pool.submit(take_turn).result())
                print(f"round {number + 1}, {name}: {statistics.median(turns[name][-1].seconds):.2f} s", flush=True)
    return turns


def time_help() -> float:
    """Median seconds, on the clock, of `dlir --help` in a process of its own."""
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dlir", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


# -- tables -------------------------------------------------------------------------------------------


def comparison(turns: Mapping[str, Sequence[Turn]], before: Mapping[str, float]) -> list[list[str]]:
    """A line per method. The ratio is the median over rounds of a method's seconds to DLIR's in the same round."""
    lines = [["method", *(f"Dice {name}" for name in before), "time (s)", "times DLIR", "peak memory (MiB)"]]
    lines.append(["before", *(f"{value:.3f}" for value in before.values()), "–", "–", "–"])
    for name, own in turns.items():
        medians = [statistics.median(turn.seconds) for turn in own]
        ratio = statistics.median(
            mine / statistics.median(turn.seconds) for mine, turn in zip(medians, turns[DLIR], strict=True)
        )
        title = name if name == DLIR else PEERS[name].name
        dice = [f"{own[-1].dice[structure]:.3f}" for structure in before]
        lines.append([title, *dice, f"{statistics.median(medians):.3f}", f"{ratio:.0f}", f"{own[-1].peak / 2**20:.0f}"])
    return lines


def split(turns: Sequence[Turn]) -> list[list[str]]:
    """A line per step of DLIR, and its floor."""
    splits = [each for turn in turns for each in turn.splits]
    totals = [each for turn in turns for each in turn.seconds]
    floors = [each for turn in turns for each in turn.floors]
    total = statistics.median(totals)
    steps = {name: statistics.median(each[name] for each in splits) for name in splits[0]}
    lines = [[name, f"{1000 * value:.0f}", f"{value / total:.0%}"] for name, value in steps.items()]
    ratio = statistics.median(whole / floor for whole, floor in zip(totals, floors, strict=True))
    return [
        ["step", f"ms, median of {len(totals)}", "share"],
        *lines,
        ["total", f"{1000 * total:.0f} ({1000 * min(totals):.0f} to {1000 * max(totals):.0f})", "100%"],
        ["floor", f"{1000 * statistics.median(floors):.0f}", f"total / floor = {ratio:.2f}"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ACDC")
    parser.add_argument("--model", default="cardiac-cine", help="name or file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    turns = compete(options)
    sections = [
        ("Methods", comparison(turns, dice_of(large_pair(options.data), CompositeTransform(())))),
        ("Where DLIR's time goes", split(turns[DLIR])),
    ]
    size = "x".join(map(str, LARGE_SIZE))
    notes = [
        f"One whole {size} cine pair that the model has not seen, warped volume, transform and Jacobian included: "
        f"{options.rounds} rounds, in each {RUNS} times DLIR and once every other. Memory is the whole process's, "
        "torch and the images in all of them. The floor is the convolutions alone. SE: elastix.",
        machine(),
        f"`dlir --help`: {time_help():.2f} s.",
    ]
    keep_tables("speed", sections, notes)


if __name__ == "__main__":
    main()
