"""An evaluation as tables: CSV and Parquet for programs, markdown for people."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from dlir.evaluation.significance import Comparison
from dlir.evaluation.summary import (
    INTERNAL,
    LABEL_KEYS,
    Measure,
    Statistics,
    count_cases,
    landmarks,
    marked_name,
    measures,
    registering,
    statistics,
    structures,
    with_structure,
    without_largest_motion,
)
from dlir.io.text import as_cell
from dlir.io.writing import replacing

UNDEFINED = "–"


def pairs_csv(table: pd.DataFrame) -> str:
    """`pairs_table` as text; empty where a figure is not defined."""
    return _csv(table.drop(columns=list(INTERNAL)))


def can_write_parquet() -> bool:
    """Whether the package that writes Parquet is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def write_pairs_parquet(path: Path, table: pd.DataFrame) -> None:
    """`pairs_table` as Apache Parquet, null where a figure is not defined. Needs pyarrow. Raises OutputError."""
    with replacing(path) as temporary:
        table.drop(columns=list(INTERNAL)).to_parquet(temporary, index=False)


def summary_csv(table: pd.DataFrame) -> str:
    """One line per method and measure: n, median, quartiles, mean, SD; seen: on how many pairs it was trained.

    Seconds are those of so many threads.
    """
    columns = [*((m.key, m.unit) for m in measures(table)), ("seconds", "s"), ("threads", "")]
    lines = []
    for method, own in table.groupby("method", sort=False):
        for key, unit in columns:
            figures = statistics(own[key])
            line = {"method": method, "measure": key, "unit": unit, **asdict(figures), "iqr": figures.iqr}
            lines.append(line | {"seen": int((own["seen"] != "").sum())})
    return _csv(pd.DataFrame(lines))


def comparisons_csv(comparisons: Iterable[Comparison]) -> str:
    """One line per measure and two methods."""
    return _csv(pd.DataFrame([asdict(comparison) for comparison in comparisons]))


def _csv(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    # Figures as they are; whatever else there is may have come from a file's name.
    texts = {str(name): own.map(as_cell) for name, own in table.items() if not pd.api.types.is_numeric_dtype(own)}
    named = table.assign(**texts).rename(columns=as_cell)
    return named.to_csv(index=False, float_format="%.6g", lineterminator="\n")


# -- for people ---------------------------------------------------------------------------------------

Cell = Callable[[Statistics, int], str]


def median_iqr(figures: Statistics, places: int) -> str:
    """As the paper's tables: median ± interquartile range."""
    return UNDEFINED if not figures.count else f"{figures.median:.{places}f} ± {figures.iqr:.{places}f}"


def mean_sd(figures: Statistics, places: int, form: str = "{} ± {}") -> str:
    """Mean and standard deviation, which a single value has not."""
    if not figures.count:
        return UNDEFINED
    mean, sd = (f"{value:.{places}f}" for value in (figures.mean, figures.sd))
    return mean if math.isnan(figures.sd) else form.format(mean, sd)


def summary_table(table: pd.DataFrame, chosen: Sequence[Measure], cell: Cell) -> list[list[str]]:
    """Head and one line per method: n, the chosen measures, and seconds as mean (SD) with the threads that they took.

    What a method has seen is said.

    Figures of a method that did nothing and cannot fold are left undefined, as in the paper's tables. Where a measure
    is not defined on all of the n pairs, as the distance to a structure that was lost, its cell says on how many it is.
    """
    timed = table[table["seconds"].notna()]
    alike = timed["threads"].nunique() == 1
    time = f"time (s), {_threads(timed)}" if alike else "time (s)"
    lines = [["method", "n", *(measure.label for measure in chosen), time]]
    for _, own in table.groupby("method", sort=False):
        n, seconds = count_cases(own), statistics(own["seconds"])
        cells = []
        for measure in chosen:
            figures = statistics(own[measure.key])
            fewer = f" (n = {figures.count})" if 0 < figures.count < n else ""
            undefined = measure.topology and not seconds.count
            cells.append(UNDEFINED if undefined else cell(figures, measure.digits) + fewer)
        unlike = "" if alike or not seconds.count else f", {_threads(own)}"
        lines.append([marked_name(own), str(n), *cells, mean_sd(seconds, 2, "{} ({})") + unlike])
    return lines


def _threads(table: pd.DataFrame) -> str:
    """How many, of runs at different times perhaps not always the same."""
    counts = sorted(table["threads"].unique())
    return f"{' or '.join(map(str, counts))} thread{'' if counts == [1] else 's'}"


def summary_tables(table: pd.DataFrame, cell: Cell) -> list[list[list[str]]]:
    """One `summary_table` per structure, of the pairs that have it, and one of all that is not of a structure."""
    found = {m.key: m for m in measures(table)}
    tables = []
    for name in structures(table):
        chosen = [found.pop(f"{key}_{name}") for key in LABEL_KEYS]
        tables.append(summary_table(with_structure(table, name), chosen, cell))
    return [*tables, summary_table(table, list(found.values()), cell)]


def landmark_table(table: pd.DataFrame) -> list[list[str]]:
    """Per pair and over all landmarks, mean (SD) of the error in mm, before and by each method (Table 6)."""
    marked, own = landmarks(table), registering(table)
    first = marked["method"].iloc[0]

    def line(title: str, part: pd.DataFrame) -> list[str]:
        before = part.loc[part["method"] == first, "before"]
        after = [part.loc[part["method"] == name, "after"] for name in own]
        return [title, str(len(before)), *map(_mean_sd, (before, *after))]

    heads = [marked_name(table[table["method"] == name]) for name in own]
    lines = [["pair", "n", "before", *heads]]
    for (_, pair), part in marked.groupby(["data", "pair"], sort=False):
        lines.append(line(f"{pair} (seen)" if (part["seen"] != "").any() else str(pair), part))
    lines.append(line("all landmarks", marked))
    if own:
        trimmed = [without_largest_motion(marked[marked["method"] == name])["after"] for name in own]
        lines.append(["without the tenth that moved most", str(len(trimmed[0])), UNDEFINED, *map(_mean_sd, trimmed)])
    return lines


def _mean_sd(errors: pd.Series[float]) -> str:
    return f"{errors.mean():.2f} ({errors.std(ddof=0):.2f})"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table, head first, as markdown."""
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "| " + " | ".join(["---"] * len(lines[0])) + " |", *body])
