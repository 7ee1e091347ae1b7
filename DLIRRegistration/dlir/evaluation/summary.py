"""An evaluation as one table, a line per pair and method, and its figures over many pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from dlir.evaluation.results import Row
from dlir.metrics.landmarks import error_statistics

# Columns of `pairs_table` before the measures, and those that are for programs only.
_ABOUT = (
    "data",
    "pair",
    "fixed_subject",
    "moving_subject",
    "method",
    "seen",
    "seconds",
    "device",
    "threads",
    "size",
    "masked",
)
INTERNAL = ("transform", "before", "after")


@dataclass(frozen=True)
class Measure:
    """One figure of a pair. key: its column. unit: empty for a plain number. better: 1 where more is, -1 where less.

    digits: after the point, as many as it deserves. topology: whether it is of the deformation alone.
    """

    key: str
    title: str
    unit: str
    better: int
    digits: int
    topology: bool = False

    @property
    def label(self) -> str:
        """Title and unit, for axes and heads of columns."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


_OF_LABELS = (
    Measure("dice", "Dice", "", 1, 3),
    Measure("hd", "HD", "mm", -1, 1),
    Measure("hd95", "HD95", "mm", -1, 1),
    Measure("asd", "ASD", "mm", -1, 2),
)
LABEL_KEYS = tuple(m.key for m in _OF_LABELS)
_OF_PAIRS = (
    Measure("tre_mean", "TRE", "mm", -1, 2),
    Measure("folding_percent", "Folding", "% of voxels", -1, 3, True),
    Measure("jacobian_sd", "SD of Jacobian", "", -1, 3, True),
    Measure("log_jacobian_sd", "SD of log Jacobian", "", -1, 3, True),
    Measure("jacobian_min", "Smallest Jacobian", "", 1, 3, True),
    Measure("inverse_consistency", "Inverse consistency error", "mm", -1, 2, True),
)


@dataclass(frozen=True)
class Statistics:
    """Of the values that are defined. sd: of the sample, `nan` for a single one. All but `count` are `nan` for none."""

    count: int
    median: float
    lower_quartile: float
    upper_quartile: float
    mean: float
    sd: float

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        return self.upper_quartile - self.lower_quartile


# -- the table ----------------------------------------------------------------------------------------


def pairs_table(rows: Iterable[Row], seen: Mapping[tuple[str, str], str] = MappingProxyType({})) -> pd.DataFrame:
    """A line per row, every figure under the name of its column, `nan` where it is not defined.

    seen: how a method has seen a pair in its training, by the names of the two; the column is empty for all others.

    The columns are those of pairs.csv, and last the INTERNAL ones: file of the transform, landmark errors in mm at the
    start and registered as tuples. There is a column for every structure that any row has scores of, and columns for
    landmarks and for inverse consistency where any row has those.
    """
    rows = list(rows)
    marked = any(row.after for row in rows)
    table = pd.DataFrame([_line(row, marked=marked) | {"seen": seen.get((row.method, row.pair), "")} for row in rows])
    counted = [f"voxels_{which}_{name}" for name in structures(table) for which in ("fixed", "warped")]
    errors = [column for column in table.columns if column.startswith(("tre_before_", "tre_after_"))]
    order = [*_ABOUT, *(m.key for m in measures(table)), "jacobian_max", *counted, *errors, *INTERNAL]
    return table.reindex(columns=order).astype({"seconds": float, **dict.fromkeys(counted, "Int64")})


def _line(row: Row, *, marked: bool) -> dict[str, Any]:
    """marked: with columns for landmarks, also where this row has none."""
    line = {name: getattr(row, name) for name in (*_ABOUT, *INTERNAL) if name != "seen"} | {
        "size": "x".join(map(str, row.size)),
        "folding_percent": row.topology.folding_percent,
        "jacobian_sd": row.topology.sd,
        "log_jacobian_sd": row.topology.log_sd,
        "jacobian_min": row.topology.min,
        "jacobian_max": row.topology.max,
    }
    for name, scores in row.labels.items():
        line |= {f"{key}_{name}": getattr(scores, key) for key in LABEL_KEYS}
        line |= {f"voxels_fixed_{name}": scores.fixed_voxels, f"voxels_warped_{name}": scores.warped_voxels}
    if marked:
        before, after = asdict(error_statistics(row.before)), asdict(error_statistics(row.after))
        line |= {f"tre_before_{key}": value for key, value in before.items()}
        line |= {f"tre_after_{key}": value for key, value in after.items()} | {"tre_mean": after["mean"]}
    if row.inverse_consistency is not None:
        line["inverse_consistency"] = row.inverse_consistency.mean
    return line


def structures(table: pd.DataFrame) -> list[str]:
    """The structures that there are columns of, in order of appearance."""
    return [column.removeprefix("dice_") for column in table.columns if column.startswith("dice_")]


def measures(table: pd.DataFrame) -> list[Measure]:
    """Everything that the table holds: overlap and distances of each structure, landmarks, topology, consistency."""
    of_labels = [
        Measure(f"{m.key}_{name}", f"{m.title} {name}", m.unit, m.better, m.digits)
        for name in structures(table)
        for m in _OF_LABELS
    ]
    return of_labels + [m for m in _OF_PAIRS if m.key in table]


def count_cases(table: pd.DataFrame) -> int:
    """How many pairs the table is of."""
    return len(table[["data", "pair"]].drop_duplicates())


def marked_name(own: pd.DataFrame) -> str:
    """The name of a method as tables show it. own: its lines, which say on how many pairs it was trained or chosen."""
    name, seen = str(own["method"].iloc[0]), int((own["seen"] != "").sum())
    return f"{name} (seen: {seen} of {count_cases(own)})" if seen else name


def with_structure(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The lines that have scores of a structure, be they defined or not."""
    return table[table[f"voxels_fixed_{name}"].notna()]


def registering(table: pd.DataFrame) -> list[str]:
    """The methods that do something, in order of appearance."""
    return list(table.loc[table["seconds"].notna(), "method"].unique())


def by_method(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A line per pair and a column per method, both in order of appearance; `nan` where a method has no value.

    Of several lines of one pair and method, as of one model under two names, the last one counts.
    """
    case = ["data", "pair"]
    once = table.drop_duplicates([*case, "method"], keep="last")
    values = once.pivot(index=case, columns="method", values=measure.key)
    return values.reindex(index=table.set_index(case).index.unique(), columns=table["method"].unique())


def subject_means(table: pd.DataFrame, values: pd.Series[float]) -> pd.Series[float]:
    """The mean of each subject's pairs, which are not independent of each other, in order of the subjects' names.

    values: of pairs, as a column of `by_method` without its `nan`. A pair between two subjects is the first one's by
    name, so that both its directions are one subject's.
    """
    once = table.drop_duplicates(["data", "pair"]).set_index(["data", "pair"])
    first = once[["fixed_subject", "moving_subject"]].min(axis=1).reindex(values.index)
    return values.groupby([values.index.get_level_values("data"), first.to_numpy()]).mean()


# -- figures ------------------------------------------------------------------------------------------


def statistics(values: pd.Series[float] | Iterable[float]) -> Statistics:
    """The figures of those values that are not `nan`."""
    found = pd.Series(values, dtype=float).describe()
    figures = (float(found[name]) for name in ("50%", "25%", "75%", "mean", "std"))
    return Statistics(int(found["count"]), *figures)


def landmarks(table: pd.DataFrame) -> pd.DataFrame:
    """A line per landmark instead of per pair: `before` and `after` are its errors in mm."""
    marked = table[table["after"].map(len) > 0]
    return marked.explode(["before", "after"]).astype({"before": float, "after": float})


def without_largest_motion(marked: pd.DataFrame, fraction: float = 0.1) -> pd.DataFrame:
    """The lines of `landmarks` without that fraction of them that began farthest from their counterparts (§8.2)."""
    kept = len(marked) - round(fraction * len(marked))
    return marked.sort_values("before", kind="stable").head(kept)
