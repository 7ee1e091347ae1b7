"""Two findings of the paper on our data: that several stages raise Dice, and that bending energy lowers folding.

    python Benchmarks/ablation.py --data DATA

DATA holds acdc/ and sunnybrook/. Trains the paper's four cardiac cine models (§6.1, Table 1), each with the same
processor time, on the images that the shipped model was trained with, and evaluates them on end-diastole and
end-systole both ways of ACDC patients 081-100, which none has seen. Prints and keeps results/ablation.md; the records
are in results/ablation.jsonl. An interrupted run goes on where it was. Needs the train and eval extras.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from designs import ACDC_SUBJECTS
from study import Benchmark, label_tables, machine

from dlir.data.layouts.acdc import Acdc
from dlir.data.pair import select
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.methods.network import NetworkMethod
from dlir.evaluation.results import common_cases
from dlir.evaluation.significance import holm, signed_rank
from dlir.evaluation.summary import by_method, count_cases, measures, pairs_table, structures, subject_means
from dlir.io.writing import write_json
from dlir.model.catalogue import resource_folder
from dlir.training.config import TrainingConfig
from dlir.training.config_file import load_config, preset_file
from dlir.training.run import train
from dlir.training.run_folder import RunFolder, RunOptions

# Whose images, split and how often the largest motion is drawn are those of this benchmark.
TRAINED_ON = resource_folder("Models") / "cardiac-cine.yaml"
# By the names of the tables, as in table 2.
DESIGNS = {
    "single": "cardiac-cine-paper-single-no-bending",
    "single + BP": "cardiac-cine-paper-single",
    "multi": "cardiac-cine-paper-no-bending",
    "multi + BP": "cardiac-cine-paper",
}
# What a processor can do in minutes: (x, y, z) voxels about the heart, and pairs an iteration.
CROP = (128, 128, 10)
BATCH = 2
# Iterations of a stage by which its cost is measured.
MEASURED = 8
# Iterations between checkpoints.
VALIDATION_EVERY = 50
SIGNIFICANT = 0.05


# -- training -----------------------------------------------------------------------------------------


def configuration(design: str, iterations: Sequence[int]) -> TrainingConfig:
    """The preset of a design with so many iterations of each stage, for a processor."""
    preset, shipped = load_config(preset_file(DESIGNS[design])), load_config(TRAINED_ON)
    stages = [
        stage.model_copy(update={"iterations": n, "batch_size": BATCH})
        for stage, n in zip(preset.training, iterations, strict=True)
    ]
    return preset.model_copy(
        update={
            "sources": shipped.sources,
            "augmentation": preset.augmentation.model_copy(update={"crop": CROP}),
            "training": stages,
            "validation_every": VALIDATION_EVERY,
        }
    )


@dataclass
class Trainings:
    """The trainings below one folder, which share the prepared images and what an iteration was found to cost."""

    data: Path
    folder: Path

    def cost(self, design: str) -> list[float]:
        """Seconds of one processor that an iteration of each stage takes; measured once.

        Bending energy is computed whatever its weight, so that designs of as many stages cost the same.
        """
        stages = len(load_config(preset_file(DESIGNS[design])).training)
        kept = self.folder / f"cost-{stages}.json"
        if not kept.exists():
            write_json(kept, self._measure(configuration(design, [MEASURED] * stages)))
        return [float(seconds) for seconds in json.loads(kept.read_bytes())]

    def _measure(self, config: TrainingConfig) -> list[float]:
        clocks: dict[str, list[float]] = {}
        with tempfile.TemporaryDirectory() as folder:
            self._train(Path(folder) / "run", config, clocks)
        # The processor's time, not the clock's: other work on the machine must not shorten a design's training.
        return [statistics.median(np.diff(clock[:-1])) for clock in clocks.values()]

    def iterations(self, design: str, minutes: float) -> list[int]:
        """Of each stage: all stages of a design take an equal part of the same time."""
        cost = self.cost(design)
        return [max(1, round(minutes * 60 / len(cost) / seconds)) for seconds in cost]

    def model(self, design: str, minutes: float) -> Path:
        """Model file of a design, trained as far as it is not yet."""
        config = configuration(design, self.iterations(design, minutes))
        return self._train(self.folder / design.replace(" + ", "-"), config, {})

    def _train(self, path: Path, config: TrainingConfig, clocks: dict[str, list[float]]) -> Path:
        """clocks: takes the processor's time after every iteration, by phase."""
        run, cache = RunFolder(path), self.folder / "cache"
        if run.holds_run:
            run.check_same(config)
            options = run.resume()
        else:
            options = RunOptions(config, self.data, cache)
            run.begin(options)
        return train(run, options, "cpu", 1, 1, _tell, partial(_note, path.name, clocks))


def _note(
    run: str, clocks: dict[str, list[float]], phase: str, done: int, total: int, values: dict[str, float]
) -> None:
    clocks.setdefault(phase, []).append(time.process_time())
    if "seconds" in values:
        shown = {name: value for name, value in values.items() if name not in ("phase", "iteration")}
        figures = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        print(f"{time.strftime('%H:%M:%S')}  {run}  {phase}  {done}/{total}  {figures}", flush=True)


def _tell(what: str, why: str) -> None:
    print(f"left out: {what}: {why}", flush=True)


# -- findings -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tested:
    """One measure of two designs on the same subjects, each with the mean of its pairs. difference: mean of second -
    first; typical: median of those that are not 0, whose sign is the test's. better: 1 where the finding says that the
    second has more, -1 where less.
    """

    measure: str
    first: str
    second: str
    count: int
    difference: float
    typical: float
    p: float
    better: int

    @property
    def verdict(self) -> str:
        """Of one comparison, after correction for all of them."""
        if not self.p < SIGNIFICANT:
            return "no difference found"
        return "confirmed" if self.typical * self.better > 0 else "contradicted"


@dataclass(frozen=True)
class Finding:
    """What the paper says, and the pairs of designs and the measures that tell."""

    title: str
    pairs: tuple[tuple[str, str], ...]
    measures: tuple[str, ...]

    def tested(self, table: pd.DataFrame) -> list[Tested]:
        """Every comparison that the table allows; p after Holm's correction over all of them."""
        known = {m.key: m for m in measures(table)}
        values = {key: by_method(table, known[key]) for key in self.measures}
        found = []
        for first, second in self.pairs:
            for key, own in values.items():
                if first in own and second in own:
                    differences = subject_means(table, (own[second] - own[first]).dropna()).to_numpy()
                    found.append((known[key], first, second, differences))
        corrected = holm([signed_rank(differences) for *_, differences in found])
        return [
            Tested(m.label, first, second, len(d), float(d.mean()), _typical(d), p, m.better)
            for (m, first, second, d), p in zip(found, corrected, strict=True)
        ]

    def sentence(self, tests: Sequence[Tested]) -> str:
        """What became of it, in words."""
        if not tests:
            return f"{self.title}: not tested."
        counts = {verdict: sum(t.verdict == verdict for t in tests) for verdict in ("confirmed", "contradicted")}
        for verdict, count in counts.items():
            if count == len(tests):
                return f"{self.title}: {verdict}, in all {count} comparisons."
        undecided = len(tests) - sum(counts.values())
        parts = [f"{verdict} in {count}" for verdict, count in counts.items() if count]
        parts += [f"no difference found in {undecided}"] if undecided else []
        return f"{self.title}: {', '.join(parts)} of {len(tests)} comparisons."


def findings(names: Sequence[str]) -> list[Finding]:
    """The two of §6.2 that this benchmark is about. names: of the structures."""
    dice = tuple(f"dice_{name}" for name in names)
    return [
        Finding("Several stages raise Dice", (("single", "multi"), ("single + BP", "multi + BP")), dice),
        Finding(
            "Bending energy lowers folding",
            (("single", "single + BP"), ("multi", "multi + BP")),
            ("folding_percent",),
        ),
    ]


def _typical(differences: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    changed = differences[differences != 0]
    return float(np.median(changed)) if changed.size else 0.0


def comparison_table(tests: Sequence[Tested]) -> list[list[str]]:
    """Head and one line per comparison."""
    head = ["measure", "from", "to", "subjects", "mean difference", "median where they differ", "p (Holm)", "finding"]
    lines = [
        [
            t.measure,
            t.first,
            t.second,
            str(t.count),
            *(f"{d:+.4f}" for d in (t.difference, t.typical)),
            f"{t.p:.2g}",
            t.verdict,
        ]
        for t in tests
    ]
    return [head, *lines]


# -- the whole ----------------------------------------------------------------------------------------


def training_table(trainings: Trainings, chosen: Sequence[str], minutes: float) -> list[list[str]]:
    """What each model was given."""
    table = [["design", "preset", "iterations of each stage", "processor seconds an iteration"]]
    for design in chosen:
        iterations = " + ".join(map(str, trainings.iterations(design, minutes)))
        cost = " + ".join(f"{seconds:.2f}" for seconds in trainings.cost(design))
        table.append([design, DESIGNS[design], iterations, cost])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of acdc/ and sunnybrook/")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"), help="folder for runs and transforms")
    parser.add_argument("--minutes", type=float, default=10, help="processor time of each training's iterations")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--designs", nargs="+", choices=list(DESIGNS), default=list(DESIGNS), help="only these")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    trainings = Trainings(options.data, options.output)
    for line in training_table(trainings, options.designs, options.minutes):
        print("  ".join(line), flush=True)
    models = {design: trainings.model(design, options.minutes) for design in options.designs}
    methods = [NetworkMethod(path, torch.device("cpu"), name=design) for design, path in models.items()]
    benchmark = Benchmark("ablation", options.output / "evaluation")
    data = Acdc(options.data / "acdc")
    benchmark.run(data, select(data.pairs(), ACDC_SUBJECTS), [Identity(), *methods])
    table = pairs_table(common_cases(benchmark.rows))
    tests = {finding: finding.tested(table) for finding in findings(structures(table))}
    notes = [
        *(finding.sentence(found) for finding, found in tests.items()),
        f"Each model had {options.minutes:g} minutes of processor time for its iterations, divided equally between its "
        f"stages, so that a design of two stages is not given more for having two; batches of {BATCH} pairs, windows "
        f"of {' x '.join(map(str, CROP))} voxels, float32; all else as in its preset. The paper trained far longer. "
        f"ED and ES both ways of ACDC 081-100, never seen: {count_cases(table)} pairs. BP: bending "
        f"penalty. Wilcoxon's signed-rank test on means within a subject, p below {SIGNIFICANT:g} after Holm's "
        "correction within a finding.",
        machine(),
    ]
    sections = [
        ("trainings", training_table(trainings, options.designs, options.minutes)),
        *((finding.title, comparison_table(found)) for finding, found in tests.items()),
        *label_tables(benchmark.rows),
    ]
    benchmark.keep_tables(sections, notes)


if __name__ == "__main__":
    main()
