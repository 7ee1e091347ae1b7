"""What the benchmarks share: a resumable study over one or more data sets, and its tables in Benchmarks/results."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch

from dlir.data.layouts import DataSet, Pair
from dlir.evaluation.held_out import hold_out, reading_contents
from dlir.evaluation.methods.base import Method
from dlir.evaluation.methods.network import NetworkMethod
from dlir.evaluation.methods.syn import SynMethod
from dlir.evaluation.report.build import build_report
from dlir.evaluation.results import Row, common_cases
from dlir.evaluation.study import RESULTS, Evaluated, Outcome, Study
from dlir.evaluation.summary import Measure, measures, pairs_table, structures, with_structure
from dlir.evaluation.tables import markdown, mean_sd, median_iqr, summary_table
from dlir.io.writing import write_text
from dlir.model.catalogue import resolve_model
from dlir.model.file import read_header, rewrite_card
from dlir.optimization import optimise, watch

KEPT = Path(__file__).parent / "results"

# The columns of the paper's tables, of one structure and of the deformation.
LABEL_KEYS = ("dice", "hd", "asd")
TOPOLOGY_KEYS = ("folding_percent", "jacobian_sd")

# A table, head first, and its title.
Section = tuple[str, Sequence[Sequence[str]]]


@dataclass
class Benchmark:
    """A study whose records are kept in the repository, so that others need not compute them again.

    name: of its files in Benchmarks/results. work: folder for transforms and reports, which are too large to keep.
    """

    name: str
    work: Path
    mode: str = "centers"
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in (self.work, KEPT):
            folder.mkdir(parents=True, exist_ok=True)
        if not (self.work / RESULTS).exists() and self._records.exists():
            shutil.copy(self._records, self.work / RESULTS)
        self.study = Study(self.work, self.mode)

    @property
    def _records(self) -> Path:
        return KEPT / f"{self.name}.jsonl"

    def run(self, data: DataSet, pairs: Sequence[Pair], methods: Sequence[Method]) -> list[Row]:
        """Evaluates what is missing, writes a report, and keeps the records. Their rows, pair by pair.

        Pairs that a model was trained on or chosen by are left out.
        """
        held_out = hold_out(pairs, data.pairs(), methods, reading_contents(), allow_seen=False)
        pairs = held_out.pairs
        for line in held_out.notes:
            print(line, flush=True)
        outcome: Outcome = self.study.run(
            data, pairs, methods, lambda name, done: print(f"{done:5.0%}  {name}", flush=True)
        )
        for problem in outcome.problems:
            print(f"left out: {problem.pair} {problem.method}: {problem.message}", flush=True)
        report = self.work / f"{data.title.replace(' ', '-')}-{len(pairs)}-pairs.html"
        write_text(report, build_report(Evaluated(self.study, data, pairs, methods, outcome, notes=held_out.notes)))
        shutil.copy(self.work / RESULTS, self._records)
        self.rows += outcome.rows
        print(f"report  {report}")
        return outcome.rows

    def keep_tables(self, sections: Sequence[Section], notes: Sequence[str]) -> None:
        """Writes and prints NAME.md."""
        keep_tables(self.name, sections, notes)


def keep_tables(name: str, sections: Sequence[Section], notes: Sequence[str]) -> None:
    """Writes and prints Benchmarks/results/NAME.md."""
    parts = [f"# {name}", *notes, *(f"## {title}\n\n{markdown(table)}" for title, table in sections)]
    text = "\n\n".join(parts) + "\n"
    KEPT.mkdir(exist_ok=True)
    write_text(KEPT / f"{name}.md", text)
    print(text)


def label_tables(rows: Sequence[Row]) -> list[Section]:
    """One table as means and one as medians, structure by structure; of the pairs that every method has."""
    shared = pairs_table(common_cases(rows))
    found = measures(shared)
    sections: list[Section] = []
    for title, cell in (("Mean ± SD", mean_sd), ("Median ± IQR", median_iqr)):
        table: list[list[str]] = []
        for name in structures(shared):
            head, *body = summary_table(with_structure(shared, name), columns(found, name), cell)
            table = table or [["structure", *(text.replace(f" {name}", "") for text in head)]]
            table += [[name, *line] for line in body]
        sections.append((title, table))
    return sections


def columns(found: Sequence[Measure], name: str) -> list[Measure]:
    """The paper's columns for one structure."""
    by_key = {m.key: m for m in found}
    return [by_key[key] for key in (*(f"{k}_{name}" for k in LABEL_KEYS), *TOPOLOGY_KEYS)]


def keep_in_card(model: NetworkMethod, rows: Sequence[Row], data: str) -> None:
    """Puts a model's means over `rows`, its own on images kept from training, into its file's card.

    data: what the rows are of, in words.
    """
    table = pairs_table(rows)
    digits = {**{f"dice_{name}": 3 for name in structures(table)}, "folding_percent": 4, "jacobian_sd": 3}
    figures = {key: round(float(table[key].mean()), places) for key, places in digits.items()}
    rewrite_card(model.path, read_header(model.path).card | {"held_out": {"data": data, **figures}})


def machine() -> str:
    """Where it ran, for the notes of a table."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return f"{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}."


@contextmanager
def on_own_time() -> Iterator[Callable[[], float]]:
    """Within it the budgets of optimisations are seconds that this process computed, whatever else the machine does.

    Yields that clock.
    """
    own = SimpleNamespace(perf_counter=time.process_time)
    with patch.object(watch, "time", own), patch.object(optimise, "time", own):
        yield time.process_time


def peak_bytes() -> int:
    """Most memory that this process has held. getrusage's figure may be that of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


# -- options ------------------------------------------------------------------------------------------


def options_of(description: str | None, *, models: Sequence[str], work: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--dlir", nargs="*", default=list(models), metavar="NAME=MODEL", help="models, by name or file")
    parser.add_argument("--device", default="cpu", help="of the models")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(work), help="folder for transforms and reports")
    return parser


def networks(options: argparse.Namespace, *, stages: bool = False) -> list[NetworkMethod]:
    """The models asked for; with `stages`, each of them up to each of its stages."""
    torch.set_num_threads(options.threads)
    found = []
    for text in options.dlir:
        name, _, model = text.rpartition("=")
        path, device = resolve_model(model), torch.device(options.device)
        whole = NetworkMethod(path, device, name=name)
        counts = range(1, len(whole.stages) + 1) if stages else ()
        found += [NetworkMethod(path, device, stages=k, name=name) for k in counts] or [whole]
    return found


def syn(*, affine: bool = False) -> list[Method]:
    """ANTs' SyN, where it is installed."""
    if importlib.util.find_spec("ants") is None:
        print("SyN is left out: antspyx is not installed")
        return []
    return [SynMethod(affine=affine)]
