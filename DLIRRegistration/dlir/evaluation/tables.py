"""An evaluation as tables: CSV and Parquet for programs, markdown for people."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlir.evaluation.results import Row
from dlir.evaluation.significance import Comparison
from dlir.evaluation.summary import Measure, Statistics, by_method, measures, statistics, structures, times
from dlir.io.writing import replacing
from dlir.metrics.measures import error_statistics

UNDEFINED = "–"
LABEL_KEYS = ("dice", "hd", "hd95", "asd")

# Digits after the point, by the first word of a measure's key.
_DIGITS = {"dice": 3, "hd": 1, "hd95": 1, "asd": 2, "tre": 2, "folding": 3, "jacobian": 3, "log": 3, "inverse": 2}


def digits(measure: Measure) -> int:
    """How many digits after the point a measure deserves."""
    return _DIGITS[measure.key.partition("_")[0]]


def pairs_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line per pair and method, every figure under the name of its column; None or `nan` where it is not defined."""
    found = measures(rows)
    landmarks = any(row.after for row in rows)
    table = []
    for row in rows:
        values: dict[str, Any] = {
            "data": row.data,
            "pair": row.pair,
            "fixed_subject": row.fixed_subject,
            "moving_subject": row.moving_subject,
            "method": row.method,
            "seconds": row.seconds,
            "device": row.device,
            "threads": row.threads,
            "size": "x".join(map(str, row.size)),
            "masked": row.masked,
            **{m.key: m.value(row) for m in found},
            "jacobian_max": row.topology.max,
        }
        for name in {name: None for r in rows for name in r.labels}:
            scores = row.labels.get(name)
            values[f"voxels_fixed_{name}"] = scores and scores.fixed_voxels
            values[f"voxels_warped_{name}"] = scores and scores.warped_voxels
        if landmarks:
            for when, errors in (("before", row.before), ("after", row.after)):
                values |= {f"tre_{when}_{key}": value for key, value in asdict(error_statistics(errors)).items()}
        table.append(values)
    return table


def pairs_csv(rows: Sequence[Row]) -> str:
    """`pairs_table` as text; empty where a figure is not defined."""
    return _csv(pairs_table(rows))


def can_write_parquet() -> bool:
    """Whether the package that writes Parquet is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def write_pairs_parquet(path: Path, rows: Sequence[Row]) -> None:
    """`pairs_table` as Apache Parquet, null where a figure is not defined. Needs pyarrow. Raises OutputError."""
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    table = pairs_table(rows)
    columns = {}
    for name in table[0] if table else ():
        values = [None if isinstance(v, float) and math.isnan(v) else v for v in (line[name] for line in table)]
        # A column of nothing is one of numbers, so that files of several evaluations can be read together.
        kind = arrow.float64() if all(v is None for v in values) else None
        columns[name] = arrow.array(values, type=kind)
    with replacing(path) as temporary:
        parquet.write_table(arrow.table(columns), str(temporary))


def summary_csv(rows: Sequence[Row]) -> str:
    """One line per method and measure: n, median, quartiles, mean, SD."""
    table = []
    for method, own in by_method(rows).items():
        columns = [(m.key, m.unit, statistics(map(m.value, own))) for m in measures(rows)]
        columns.append(("seconds", "s", times(own)))
        for key, unit, figures in columns:
            table.append({"method": method, "measure": key, "unit": unit, **asdict(figures), "iqr": figures.iqr})
    return _csv(table)


def comparisons_csv(comparisons: Iterable[Comparison]) -> str:
    """One line per measure and two methods."""
    return _csv([asdict(comparison) for comparison in comparisons])


def _csv(table: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    if table:
        writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in table)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


# -- for people ---------------------------------------------------------------------------------------

Cell = Callable[[Statistics, int], str]


def median_iqr(figures: Statistics, places: int) -> str:
    """As the paper's tables: median ± interquartile range."""
    return UNDEFINED if not figures.count else f"{figures.median:.{places}f} ± {figures.iqr:.{places}f}"


def mean_sd(figures: Statistics, places: int) -> str:
    """Mean ± standard deviation; a single value has none."""
    if not figures.count:
        return UNDEFINED
    mean = f"{figures.mean:.{places}f}"
    return mean if math.isnan(figures.sd) else f"{mean} ± {figures.sd:.{places}f}"


def time_cell(figures: Statistics) -> str:
    """As the paper's tables: mean (standard deviation)."""
    if not figures.count:
        return UNDEFINED
    mean = f"{figures.mean:.2f}"
    return mean if math.isnan(figures.sd) else f"{mean} ({figures.sd:.2f})"


def summary_table(rows: Sequence[Row], chosen: Sequence[Measure], cell: Cell) -> list[list[str]]:
    """Head and one line per method: n, the chosen measures, and seconds as mean (SD).

    Figures of a method that did nothing and cannot fold are left undefined, as in the paper's tables. Where a measure
    is not defined on all of the n pairs, as the distance to a structure that was lost, its cell says on how many it is.
    """
    table = [["method", "n", *(measure.label for measure in chosen), "time (s)"]]
    for method, own in by_method(rows).items():
        n, nothing_done = len({row.case for row in own}), all(row.seconds is None for row in own)
        cells = []
        for measure in chosen:
            figures = statistics(map(measure.value, own))
            fewer = f" (n = {figures.count})" if 0 < figures.count < n else ""
            undefined = nothing_done and _is_topology(measure)
            cells.append(UNDEFINED if undefined else cell(figures, digits(measure)) + fewer)
        table.append([method, str(n), *cells, time_cell(times(own))])
    return table


def summary_tables(rows: Sequence[Row], cell: Cell) -> list[list[list[str]]]:
    """One `summary_table` per structure, of the pairs that have it, and one of all that is not of a structure."""
    found = {m.key: m for m in measures(rows)}
    tables = []
    for name in structures(rows):
        chosen = [found.pop(f"{key}_{name}") for key in LABEL_KEYS]
        tables.append(summary_table([row for row in rows if name in row.labels], chosen, cell))
    return [*tables, summary_table(rows, list(found.values()), cell)]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A table, head first, as markdown."""
    head, *body = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([head, "| " + " | ".join(["---"] * len(table[0])) + " |", *body])


def _is_topology(measure: Measure) -> bool:
    return "_" in measure.key and measure.key.partition("_")[0] in {"folding", "jacobian", "log", "inverse"}
