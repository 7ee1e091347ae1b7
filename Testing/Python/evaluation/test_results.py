"""The record of an evaluation survives what happens to long runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dlir.errors import OutputError
from dlir.evaluation.methods.base import settings_digest
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.results import Results, Topology, common_cases
from dlir.metrics.consistency import InverseConsistency
from dlir.metrics.labels import LabelScores
from evaluation_runs import NAN, make_row

OLD = Path(__file__).resolve().parents[2] / "Data" / "results-1.jsonl"


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    undefined = make_row(
        "p ED-to-ES",
        labels={"LV": LabelScores(NAN, NAN, NAN, NAN, 0, 0)},
        topology=Topology(100.0, NAN, NAN, NAN, NAN),
        seconds=None,
        before=(1.5, 2.5),
        after=(0.5, 0.25),
        inverse_consistency=InverseConsistency(3, 0.1, 0.2, 0.3),
        transform="a.h5",
    )
    results = Results(tmp_path / "r.jsonl")
    results.add([make_row(), undefined])
    read = Results(tmp_path / "r.jsonl")
    assert list(read.rows) == [make_row().key, undefined.key]
    assert read.rows[make_row().key] == make_row()
    assert repr(read.rows[undefined.key]) == repr(undefined)  # nan is not equal to itself
    assert "NaN" not in (tmp_path / "r.jsonl").read_text()


def test_rows_of_dlir_0_1_are_read_and_not_computed_again(tmp_path: Path) -> None:
    path = Path(shutil.copy(OLD, tmp_path))
    before, registered = Results(path).rows.values()
    assert before.key == ("hearts", "s00 out-to-in", f"{settings_digest(Identity())}-centers")
    assert (before.method, registered.method) == ("before", "DLIR tiny")
    assert registered.size == (24, 22, 10)
    assert registered.labels["label 1"].dice == pytest.approx(0.756198, abs=1e-6)
    assert registered.topology.sd > 0
    assert registered.inverse_consistency is not None
    assert len(registered.before) == len(registered.after) == 4
    Results(path).add([make_row()])
    assert path.read_bytes().startswith(OLD.read_bytes())
    assert len(Results(path).rows) == 3


def test_rows_are_added_never_rewritten(tmp_path: Path) -> None:
    first = Results(tmp_path / "r.jsonl")
    first.add([make_row("a")])
    before = (tmp_path / "r.jsonl").read_bytes()
    Results(tmp_path / "r.jsonl").add([make_row("b")])
    assert (tmp_path / "r.jsonl").read_bytes().startswith(before)
    first.add([make_row("c")])  # another run on the same file loses nothing
    assert [key[1] for key in Results(tmp_path / "r.jsonl").rows] == ["a", "b", "c"]


@pytest.mark.parametrize("left", [1, 20, 200])
def test_a_line_cut_short_is_taken_away_and_only_that(tmp_path: Path, left: int) -> None:
    path = tmp_path / "r.jsonl"
    Results(path).add([make_row("a"), make_row("b")])
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[0][:left])
    results = Results(path)
    assert [key[1] for key in results.rows] == ["a", "b"]
    results.add([make_row("c")])
    assert [key[1] for key in Results(path).rows] == ["a", "b", "c"]


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for text in ("hello\n", '{"pair": "x"}\n', "[1]\n", "hello"):
        path.write_text(text)
        with pytest.raises(OutputError, match=r"line 1 is no row"):
            Results(path)
        assert path.read_text() == text


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        Results(tmp_path / "missing" / "r.jsonl").add([make_row()])


def test_unknown_columns_of_later_versions_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    Results(path).add([make_row()])
    path.write_text(path.read_text().replace('"data":', '"colour": "blue", "data":'))
    assert Results(path).rows[make_row().key] == make_row()


def test_only_pairs_that_every_method_has_are_compared() -> None:
    rows = [make_row("a", "A"), make_row("b", "A"), make_row("b", "B"), make_row("c", "B")]
    assert [(row.pair, row.method) for row in common_cases(rows)] == [("b", "A"), ("b", "B")]
    assert common_cases([]) == []
