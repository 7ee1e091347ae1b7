"""What the error map is worth: the error it tells, place by place, against the error that is known.

    python Benchmarks/error_map.py run [--data DATA] [--output FOLDER]
    python Benchmarks/error_map.py table [--output FOLDER]

The pairs are those of truth/errors.py. `run` registers each on one thread, by a model or without one for 8 s, takes the
signs that dlir.registration.judging.error_map weighs, and keeps them in FOLDER beside the errors: half an hour. An
interrupted run goes on where it was. `table` prints the weights that pairs for tuning give, which are those of the
module, and keeps results/error_map.md, and in FOLDER a figure: rank correlations on the pairs that are reported.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from scipy.stats import spearmanr
from study import keep_tables, machine
from truth.errors import ALONE, REFINED, Case, Kind, cases, sampled
from truth.store import default_data

from dlir.errors import DLIRError
from dlir.model.catalogue import resolve_model
from dlir.registration.judging.error_map import ONE_SHOT, OPTIMISED
from dlir.registration.loading import Loaded
from dlir.registration.optimising import Refinement
from dlir.registration.pipeline import expected_start
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.session import Session

BUDGETS = {ALONE: "8s", REFINED: "5s"}
# What is told of one kind of results: how well the error map does, of a pair itself and of all pairs together.
BAR = 0.5
# A border lies off along one direction of three only: half of the error, in the mean.
BORDER = 2.0
# Added to an error, in samples, before its logarithm is taken, as to the signs.
LEAST = 0.05

Row = list[str]


@dataclass(frozen=True, eq=False)
class Measured:
    """errors: (N,) mm. signs: (S, N). structures: (N,). sample, seconds: of the map. optimised: how it was found."""

    case: Case
    method: str
    errors: NDArray[np.float64]
    signs: NDArray[np.float64]
    structures: NDArray[np.int64]
    sample: float
    seconds: float

    @property
    def optimised(self) -> bool:
        return self.method in BUDGETS

    def expected(self, weights: Sequence[float]) -> NDArray[np.float64]:
        """(N,) mm"""
        logarithm = weights[0] + np.array(weights[1:]) @ self.signs
        return np.asarray(self.sample * np.exp(logarithm), np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--output", type=Path, default=Path("error-map"), help="folder of what is measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    known = cases(options.data)
    if options.what == "run":
        run(known, options.data, options.output)
    done = [*_read(known, options.output)]
    fitted = {name: fit([one for one in done if one.case.split == "tune" and of(one)]) for name, of in KINDS.items()}
    for name, weights in fitted.items():
        print(name, "weights:", ", ".join(f"{weight:.3f}" for weight in weights))
    figure(done, options.output / "error_map.png")
    keep_tables("error_map", tables(done), [*NOTES, machine()])


def run(known: Iterable[Case], data: Path, output: Path) -> None:
    session = Session()
    for case in known:
        missing = [method for method in case.methods if not _file(output, case, method).exists()]
        if not missing:
            continue
        fixed, moving, places = case.load(data)
        for method in missing:
            path = None if method == ALONE else resolve_model(method.split()[0])
            header = None if path is None else session.load(path)
            loaded = Loaded(fixed, moving, expected=expected_start(header))
            request = RegistrationRequest("", "", Outputs(""), refine=BUDGETS.get(method))
            refinement = Refinement.of(request, model=path is not None, stop=lambda: False)
            try:
                result = session.register(loaded, path, "cpu", refinement=refinement).value
            except DLIRError as error:
                print(f"left out: {case.name} {method}: {error}", flush=True)
                continue
            started = time.perf_counter()
            signs = session.error_signs(loaded, result, path, "cpu")
            seconds = time.perf_counter() - started
            values = np.stack([sampled(one, signs.grid, places.points) for one in signs.values])
            errors = places.errors(result.transform)
            with _file(output, case, method).open("wb") as stream:
                np.savez(
                    stream,
                    errors=errors,
                    signs=values,
                    structures=places.structures,
                    sample=signs.sample,
                    seconds=seconds,
                )
            told = ", ".join(f"{ranks(one, errors):.2f}" for one in values)
            print(f"{case.name} {method}: median {np.median(errors):.2f} mm, {told}, {seconds:.1f} s", flush=True)


def _file(output: Path, case: Case, method: str) -> Path:
    name = f"{case.name} {method}".replace("/", "-").replace(" ", "_").replace("#", "-")
    return output / f"{name}.npz"


def _read(known: Iterable[Case], output: Path) -> Iterable[Measured]:
    for case in known:
        for method in case.methods:
            if (file := _file(output, case, method)).exists():
                kept = np.load(file)
                arrays = (kept["errors"], kept["signs"], kept["structures"].astype(np.int64))
                yield Measured(case, method, *arrays, float(kept["sample"]), float(kept["seconds"]))


# -- weights ------------------------------------------------------------------------------------------


def fit(done: Sequence[Measured]) -> tuple[float, ...]:
    """What each sign adds to the logarithm of the error in samples: none takes from it. Each pair counts the same."""
    if not done:
        return ()
    rows = [np.vstack([np.ones(one.errors.size), one.signs]).T / np.sqrt(one.errors.size) for one in done]
    wanted = [
        np.log(one.errors * (BORDER if one.case.kind == "labels" else 1) / one.sample + LEAST)
        / np.sqrt(one.errors.size)
        for one in done
    ]
    low = [-np.inf, *[0.0] * (rows[0].shape[1] - 1)]
    found = lsq_linear(np.concatenate(rows), np.concatenate(wanted), bounds=(low, np.inf))
    return tuple(round(float(value), 3) for value in found.x)


def weights_of(one: Measured) -> Sequence[float]:
    return OPTIMISED if one.optimised else ONE_SHOT


# -- tables -------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Measured], bool]] = {
    "one shot": lambda one: not one.optimised,
    "optimised": lambda one: one.optimised,
}
TRUTHS: dict[str, tuple[Kind, ...]] = {
    "exact, and landmarks": ("exact", "landmarks"),
    "borders of labels": ("labels",),
    "all": ("exact", "landmarks", "labels"),
}
NOTES = [
    "Spearman's rank correlation between the error that the map tells and the error that is known. Together: over all "
    "places of all pairs; in samples: the same of errors in samples of each pair's coarse grid, so that a large voxel "
    "explains nothing; within: median over the pairs of what each has alone (those with 50 places or more). "
    "Structures: medians of the map against the mean distance of borders, over all structures of all pairs.",
    f"The bar is {BAR}: together, over exact places and over all, and within, over exact ones. That these count was "
    "settled after a first trial, whose figures of some reported pairs had been seen; the weights are of tune pairs.",
    "Measured on a machine with much other work: seconds are several times what they are on a quiet one, and budgets "
    "in seconds bought less.",
    "exact: an image displaced by a known field and changed in contrast, brightness, noise, resolution and content, or "
    "another phase of one person, or MR beside CT, displaced. borders of labels: two persons or two phases of a heart, "
    "where people drew; how far borders lie apart is one part of three of the error, and holds how exactly they drew.",
]


def tables(done: Sequence[Measured]) -> list[tuple[str, list[Row]]]:
    sections = []
    for split in ("report", "tune"):
        table = [["results", "truth", "pairs", "places", "together", "in samples", "within", "structures"]]
        for name, of in KINDS.items():
            for truth, kinds in TRUTHS.items():
                some = [one for one in done if of(one) and one.case.kind in kinds and one.case.split == split]
                if some:
                    table.append([name, truth, str(len(some)), *_figures(some)])
        sections.append((f"Rank correlation, {split} half", table))
    sections.append(("Error told and known, by tenths of what is told, report half", _tenths(done)))
    pairs = [["split", "pair", "method", "known, mm", "told, mm", "within", "seconds"]]
    for one in done:
        told = one.expected(weights_of(one))
        figures = f"{np.median(one.errors):.2f}", f"{np.median(told):.2f}", f"{ranks(told, one.errors):.2f}"
        pairs.append([one.case.split, one.case.name, one.method, *figures, f"{one.seconds:.1f}"])
    return [*sections, ("Pairs, medians", pairs)]


def _figures(some: Sequence[Measured]) -> Row:
    told = [one.expected(weights_of(one)) for one in some]
    within = [ranks(own, one.errors) for own, one in zip(told, some, strict=True) if one.errors.size >= 50]
    together = ranks(np.concatenate(told), np.concatenate([one.errors for one in some]))
    samples = [(own / one.sample, one.errors / one.sample) for own, one in zip(told, some, strict=True)]
    free = ranks(*(np.concatenate(side) for side in zip(*samples, strict=True)))
    medians, means = list[float](), list[float]()
    for own, one in zip(told, some, strict=True):
        for value in np.unique(one.structures[one.structures > 0]):
            at = one.structures == value
            medians.append(float(np.median(own[at])))
            means.append(float(one.errors[at].mean()))
    structures = f"{ranks(np.array(medians), np.array(means)):.2f} ({len(medians)})" if medians else "–"
    places = str(sum(one.errors.size for one in some))
    return [places, f"{together:.2f}", f"{free:.2f}", f"{np.median(within):.2f}", structures]


def _tenths(done: Sequence[Measured]) -> list[Row]:
    """Exact truth only: medians of what is told and of what is known."""
    table = [["results", *(str(number) for number in range(1, 11))]]
    for name, of in KINDS.items():
        told, known = _exact(done, of)
        if told.size:
            parts = np.array_split(np.argsort(told), 10)
            table.append([f"{name}, told, mm", *(f"{np.median(told[part]):.2f}" for part in parts)])
            table.append([f"{name}, known, mm", *(f"{np.median(known[part]):.2f}" for part in parts)])
    return table


def _exact(done: Sequence[Measured], of: Callable[[Measured], bool]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    some = [one for one in done if of(one) and one.case.kind == "exact" and one.case.split == "report"]
    told = [one.expected(weights_of(one)) for one in some]
    known = [one.errors for one in some]
    return np.concatenate([np.zeros(0), *told]), np.concatenate([np.zeros(0), *known])


def ranks(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation; `nan` where one of them is constant."""
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def figure(done: Sequence[Measured], path: Path) -> None:
    """Known error by tenths of what is told: quartiles, and the line on which both are the same."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown, axes = pyplot.subplots(1, len(KINDS), figsize=(10, 5), squeeze=False)
    for axis, (name, of) in zip(axes[0], KINDS.items(), strict=True):
        told, known = _exact(done, of)
        if not told.size:
            continue
        parts = np.array_split(np.argsort(told), 10)
        middle = [float(np.median(told[part])) for part in parts]
        low, half, high = (np.array([np.percentile(known[part], q) for part in parts]) for q in (25, 50, 75))
        axis.errorbar(middle, half, [half - low, high - half], fmt="o", capsize=3)
        ends = [min(middle) / 1.5, max(middle) * 1.5]
        axis.plot(ends, ends, "k--", linewidth=1)
        axis.set(xscale="log", yscale="log", xlabel="error told, mm", ylabel="error known, mm", title=name)
    shown.tight_layout()
    shown.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
