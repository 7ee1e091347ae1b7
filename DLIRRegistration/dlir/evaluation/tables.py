"""An evaluation as tables: CSV for programs, markdown for people."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from dlir.evaluation.metrics import error_statistics
from dlir.evaluation.results import Row
from dlir.evaluation.significance import Comparison
from dlir.evaluation.summary import Measure, Statistics, by_method, measures, statistics, structures, times

UNDEFINED = "–"
LABEL_KEYS = ("dice", "hd", "hd95", "asd")

# Digits after the point, by the first word of a measure's key.
_DIGITS = {"dice": 3, "hd": 1, "hd95": 1, "asd": 2, "tre": 2, "folding": 3, "jacobian": 3, "log": 3, "inverse": 2}


def digits(measure: Measure) -> int:
    """How many digits after the point a measure deserves."""
    return _DIGITS[measure.key.partition("_")[0]]


def pairs_csv(rows: Sequence[Row]) -> str:
    """One line per pair and method, every figure a column; empty where it is not defined."""
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
    return _csv(table)


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

    Figures of a method that did nothing and cannot fold are left undefined, as in the paper's tables.
    """
    table = [["method", "n", *(measure.label for measure in chosen), "time (s)"]]
    for method, own in by_method(rows).items():
        nothing_done = all(row.seconds is None for row in own)
        cells = [
            UNDEFINED if nothing_done and _is_topology(m) else cell(statistics(map(m.value, own)), digits(m))
            for m in chosen
        ]
        table.append([method, str(len({row.case for row in own})), *cells, time_cell(times(own))])
    return table


def summary_tables(rows: Sequence[Row], cell: Cell) -> list[list[list[str]]]:
    """One `summary_table` per structure, and one of all that is not of a structure."""
    found = measures(rows)
    groups = [[m for m in found if m.key in {f"{k}_{name}" for k in LABEL_KEYS}] for name in structures(rows)]
    of_structures = {m.key for group in groups for m in group}
    groups.append([m for m in found if m.key not in of_structures])
    return [summary_table(rows, group, cell) for group in groups]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A table, head first, as markdown."""
    head, *body = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([head, "| " + " | ".join(["---"] * len(table[0])) + " |", *body])


def _is_topology(measure: Measure) -> bool:
    return "_" in measure.key and measure.key.partition("_")[0] in {"folding", "jacobian", "log", "inverse"}
