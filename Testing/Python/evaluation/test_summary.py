"""Medians, quartiles, means and times, and the tables made of them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlir.evaluation import tables
from dlir.evaluation.significance import compare
from dlir.evaluation.summary import (
    by_method,
    landmarks,
    measures,
    pairs_table,
    statistics,
    structures,
    without_largest_motion,
)
from dlir.metrics.consistency import InverseConsistency
from dlir.metrics.labels import LabelScores
from evaluation_runs import NAN, make_row

ROWS = [
    make_row("a", "before", seconds=None, labels={"LV": LabelScores(0.5, 10, 8, 4, 9, 9)}),
    make_row("b", "before", seconds=None, labels={"LV": LabelScores(0.7, 20, 9, 5, 9, 9)}),
    make_row("a", "DLIR", seconds=0.5, labels={"LV": LabelScores(0.8, 6, 4, 2, 9, 9)}),
    make_row("b", "DLIR", seconds=1.5, labels={"LV": LabelScores(NAN, NAN, NAN, NAN, 0, 0)}),
]
TABLE = pairs_table(ROWS)


def test_statistics_by_hand() -> None:
    figures = statistics([4.0, NAN, 1.0, 2.0, 3.0, 10.0])
    assert (figures.count, figures.median, figures.mean) == (5, 3, 4)
    assert (figures.lower_quartile, figures.upper_quartile, figures.iqr) == (2, 4, 2)
    assert figures.sd == pytest.approx(math.sqrt((0 + 9 + 4 + 1 + 36) / 4))


def test_statistics_of_one_and_of_none() -> None:
    assert statistics([2.0]).median == statistics([2.0]).mean == 2
    assert math.isnan(statistics([2.0]).sd)
    assert statistics([NAN]).count == 0
    assert math.isnan(statistics([]).median)


def test_statistics_match_numpy() -> None:
    values = np.random.default_rng(0).normal(size=37)
    figures = statistics(values)
    assert figures.iqr == pytest.approx(np.subtract(*np.percentile(values, (75, 25))))
    assert figures.sd == pytest.approx(values.std(ddof=1))


def test_measures_are_those_that_the_rows_have() -> None:
    keys = [m.key for m in measures(TABLE)]
    assert keys[:4] == ["dice_LV", "hd_LV", "hd95_LV", "asd_LV"]
    assert "tre_mean" not in keys
    assert "inverse_consistency" not in keys
    more = pairs_table(
        [*ROWS, make_row(before=(1.0,), after=(0.5,), inverse_consistency=InverseConsistency(1, 2, 3, 4))]
    )
    assert {"tre_mean", "inverse_consistency"} <= {m.key for m in measures(more)}
    assert len({m.key for m in measures(more)}) == len(measures(more))


def test_a_structure_that_a_row_lacks_is_undefined_there() -> None:
    table = pairs_table([*ROWS, make_row("c", "DLIR", labels={"RV": LabelScores(0.6, 1, 1, 1, 9, 9)})])
    assert structures(table) == ["LV", "RV"]
    dice = next(m for m in measures(table) if m.key == "dice_RV")
    assert [math.isnan(value) for value in table[dice.key]] == [True] * 4 + [False]


def test_values_stand_pair_by_pair_in_order_of_appearance_and_once() -> None:
    rows = [
        make_row(pair, method, seconds=i)
        for i, (pair, method) in enumerate([("z", "B"), ("z", "B"), ("a", "B"), ("z", "A")])
    ]
    seconds = by_method(pairs_table(rows), replace(measures(TABLE)[0], key="seconds"))
    assert (list(seconds), [pair for _, pair in seconds.index]) == (["B", "A"], ["z", "a"])
    np.testing.assert_array_equal(seconds, [[1, 3], [2, NAN]])


def test_times_are_of_what_was_done() -> None:
    seconds = TABLE.groupby("method")["seconds"]
    assert statistics(seconds.get_group("before")).count == 0
    assert statistics(seconds.get_group("DLIR")).mean == 1


def test_landmarks_of_all_pairs_count_alike() -> None:
    rows = [make_row("a", before=(3.0, 5.0), after=(1.0, 1.0)), make_row("b", before=(20.0,), after=(7.0,))]
    every = landmarks(pairs_table(rows))
    assert every["before"].mean() == pytest.approx(28 / 3)
    assert (every["after"].mean(), every["after"].count()) == (3, 3)


def test_the_largest_motions_can_be_left_out() -> None:
    rows = [make_row("a", before=tuple(range(1, 10)), after=(1.0,) * 9), make_row("b", before=(50.0,), after=(41.0,))]
    every = landmarks(pairs_table(rows))
    assert without_largest_motion(every)["after"].mean() == 1
    assert without_largest_motion(every)["after"].count() == 9
    assert without_largest_motion(every, 0)["after"].mean() == 5


# -- tables ------------------------------------------------------------------------------------------


def parse(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_one_line_per_pair_and_method() -> None:
    rows = [*ROWS, make_row("c", "DLIR", before=(2.0, 4.0), after=(1.0, 1.0))]
    table = parse(tables.pairs_csv(pairs_table(rows)))
    assert len(table) == len(rows)
    assert table[0]["dice_LV"] == "0.5"
    assert table[0]["seconds"] == table[3]["dice_LV"] == table[0]["tre_after_mean"] == ""
    assert table[3]["voxels_fixed_LV"] == "0"
    assert (table[4]["tre_before_mean"], table[4]["tre_after_mean"], table[4]["tre_after_count"]) == ("3", "1", "2")
    assert table[0]["size"] == "10x20x30"


def test_the_summary_has_every_measure_of_every_method() -> None:
    table = parse(tables.summary_csv(TABLE))
    assert len(table) == 2 * (len(measures(TABLE)) + 2)
    line = next(line for line in table if line["method"] == "before" and line["measure"] == "hd_LV")
    assert (line["count"], line["median"], line["mean"], line["iqr"], line["unit"]) == ("2", "15", "15", "5", "mm")
    line = next(line for line in table if line["method"] == "DLIR" and line["measure"] == "seconds")
    assert line["mean"] == "1"


def test_comparisons_are_a_table_too() -> None:
    table = parse(tables.comparisons_csv(compare(TABLE, measures(TABLE)[0])))
    assert table == [{"measure": "dice_LV", "first": "before", "second": "DLIR", "count": "1", "pairs": "1",
                      "seen": "0", "difference": "0.3", "p": "1", "p_holm": "1"}]  # fmt: skip


def test_people_read_medians_or_means() -> None:
    chosen = [m for m in measures(TABLE) if m.key in ("dice_LV", "hd_LV", "folding_percent")]
    assert tables.summary_table(TABLE, chosen, tables.median_iqr) == [
        ["method", "n", "Dice LV", "HD LV (mm)", "Folding (% of voxels)", "time (s), 2 threads"],
        ["before", "2", "0.600 ± 0.100", "15.0 ± 5.0", "–", "–"],
        ["DLIR", "2", "0.800 ± 0.000 (n = 1)", "6.0 ± 0.0 (n = 1)", "0.500 ± 0.000", "1.00 (0.71)"],
    ]
    means = tables.summary_table(TABLE, chosen, tables.mean_sd)
    assert means[1][2:4] == ["0.600 ± 0.141", "15.0 ± 7.1"]
    assert means[2][2] == "0.800 (n = 1)"
    assert tables.markdown(means).splitlines()[1] == "| --- | --- | --- | --- | --- | --- |"


def test_times_say_how_many_threads_they_took() -> None:
    """What is there already may be of an earlier run with another number."""
    rows = [make_row("a", "before", seconds=None), make_row("a", "DLIR", threads=1), make_row("a", "SyN", threads=4)]
    head, *lines = tables.summary_table(pairs_table([*rows, make_row("b", "SyN", threads=8)]), [], tables.mean_sd)
    assert head == ["method", "n", "time (s)"]
    assert [line[-1] for line in lines] == ["–", "1.25, 1 thread", "1.25 (0.00), 4 or 8 threads"]
    table = parse(tables.summary_csv(pairs_table(rows)))
    assert [line["median"] for line in table if line["measure"] == "threads"] == ["2", "1", "4"]


def test_every_structure_has_a_table_and_the_rest_one_more() -> None:
    wide = pairs_table([*ROWS, make_row("c", "DLIR", labels={"RV": LabelScores(0.6, 1, 1, 1, 9, 9)})])
    heads = [table[0] for table in tables.summary_tables(wide, tables.median_iqr)]
    assert [head[2] for head in heads] == ["Dice LV", "Dice RV", "Folding (% of voxels)"]
    assert sum(len(head) - 3 for head in heads) == len(measures(wide))


def test_pairs_that_lack_a_structure_do_not_count_in_its_table() -> None:
    rows = [*ROWS, make_row("c", "DLIR", labels={"RV": LabelScores(0.6, 1, 1, 1, 9, 9)})]
    left, right, rest = tables.summary_tables(pairs_table(rows), tables.median_iqr)
    assert [line[:2] for line in left[1:]] == [["before", "2"], ["DLIR", "2"]]
    assert [line[:2] for line in right[1:]] == [["DLIR", "1"]]
    assert [line[:2] for line in rest[1:]] == [["before", "2"], ["DLIR", "3"]]


def test_parquet_has_what_csv_has(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed; pip install pyarrow")
    rows = [*ROWS, make_row("c", "DLIR", before=(2.0, 4.0), after=(1.0, 1.0))]
    tables.write_pairs_parquet(tmp_path / "pairs.parquet", pairs_table(rows))
    table = parquet.read_table(tmp_path / "pairs.parquet").to_pylist()
    expected = parse(tables.pairs_csv(pairs_table(rows)))
    assert [list(line) for line in table] == [list(line) for line in expected]
    for line, text in zip(table, expected, strict=True):
        for name, value in line.items():
            if isinstance(value, float):
                assert value == pytest.approx(float(text[name]), rel=1e-5)
            else:
                assert ("" if value is None else str(value)) == text[name]
    assert list(tmp_path.iterdir()) == [tmp_path / "pairs.parquet"]


def test_nothing_measured_is_an_empty_table() -> None:
    assert tables.pairs_csv(pairs_table([])) == tables.comparisons_csv([]) == ""


def test_a_spreadsheet_takes_no_cell_of_a_table_for_a_formula() -> None:
    """A case may be called anyhow, and so may a structure."""
    rows = [replace(ROWS[0], pair="=cmd"), replace(ROWS[1], pair="-1")]
    table = pairs_table(rows)
    text = tables.pairs_csv(table)
    found = list(csv.DictReader(io.StringIO(text)))
    assert [row["pair"] for row in found] == ["'=cmd", "-1"]
    assert [float(row["jacobian_min"]) for row in found] == [-0.1, -0.1]
    plain = list(csv.DictReader(io.StringIO(tables.pairs_csv(pairs_table(ROWS[:2])))))
    assert [{**a, "pair": ""} for a in found] == [{**b, "pair": ""} for b in plain]
