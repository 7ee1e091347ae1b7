"""Methods beside each other: what is run, recorded and told of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anything
import numpy as np
import pytest
from methods.base import Found, Nothing, run_alone
from methods.peers import PEERS, SCRIPTS, parts_of, scaled
from methods.product import Product
from truth.pair import TruthPair
from truth.records import digest, read_rows

from dlir.data.pair import Pair, Scan
from dlir.errors import EvaluationError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.transforms.spatial import CompositeTransform

PAIR = TruthPair("a/x", "a", "report", Pair(Scan("p", "1", "f"), Scan("p", "2", "m")), "labels", "scanner")
MM = replace(PAIR, name="b/y", group="b", truth="landmarks")
STILL = CompositeTransform(())


class Counted:
    """A method that counts how often it was asked."""

    def __init__(self, name: str = "counted", asks: Any = 1, fails: bool = False) -> None:
        self.name, self.asks, self.fails, self.calls = name, asks, fails, 0

    def settings(self, pair: TruthPair) -> Any:
        return self.asks

    def register(self, pair: TruthPair, folder: Path, threads: int) -> Found:
        self.calls += 1
        assert not list(folder.iterdir())
        if self.fails:
            raise EvaluationError(f"no way with '{folder}/moving.nrrd'")
        return Found(STILL, 2.0, told={"verdict": "good"})


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    figures = {"score": 0.5, "folding": 0.0, "smallest": 1.0, "spread": 0.0}
    monkeypatch.setattr(TruthPair, "measured", lambda pair, transform: figures)
    return argparse.Namespace(records=tmp_path / "records.jsonl", threads=1, again=False)


def run(methods: Sequence[Any], options: argparse.Namespace, listed: Sequence[TruthPair] = (PAIR, MM)) -> None:
    anything.run(listed, methods, options)


def test_what_is_recorded_is_not_done_again_unless_asked(options: argparse.Namespace) -> None:
    method = Counted()
    run([method], options)
    run([method], options)
    assert method.calls == 2
    row = read_rows(options.records)[0]
    assert (row["pair"], row["method"], row["seconds"], row["verdict"]) == ("a/x", "counted", 2.0, "good")
    options.again = True
    run([method], options)
    assert method.calls == len(read_rows(options.records)) == 4


@pytest.mark.parametrize("change", ["settings", "threads", "pair"])
def test_another_registration_is_another_record(options: argparse.Namespace, change: str) -> None:
    run([Counted()], options, [PAIR])
    method = Counted(asks=2 if change == "settings" else 1)
    options.threads = 2 if change == "threads" else 1
    run([method], options, [replace(PAIR, seed=5) if change == "pair" else PAIR])
    assert method.calls == 1


def test_a_method_that_fails_is_recorded_without_folders_and_others_go_on(options: argparse.Namespace) -> None:
    run([Counted("poor", fails=True), Counted()], options, [PAIR])
    poor, other = read_rows(options.records)
    assert poor["problem"] == "no way with 'moving.nrrd'"
    assert other["score"] == 0.5


def row(pair: TruthPair, method: str, score: float, **others: Any) -> dict[str, Any]:
    figures = {"score": score, "folding": 1.0, "seconds": 4.0}
    return {"pair": pair.name, "digest": digest(pair), "method": method} | figures | others


def test_a_cell_tells_mean_worst_seconds_and_folding() -> None:
    several = [replace(PAIR, name=f"a/{i}") for i in range(3)]
    rows = [
        row(pair, "m", score, seconds=s) for pair, score, s in zip(several, (0.5, 0.9, 0.7), (1, 2, 9), strict=True)
    ]
    assert anything.cell(several, rows) == "0.700 / 0.500 / 2.0 s / 1.00 %"
    assert anything.cell(several, [*rows[:2], None]) == "0.700 / 0.500 / 1.5 s / 1.00 % (2)"
    gave_up = {"pair": "a/2", "digest": digest(several[2]), "method": "m", "problem": "no"}
    assert anything.cell(several, [*rows[:2], gave_up]) == "0.700 / 0.500 / 1.5 s / 1.00 % (2), gave up: 1"
    assert anything.cell(several[2:], [gave_up]) == "gave up: 1"


def test_other_work_on_the_machine_is_left_out_of_the_seconds() -> None:
    busy = {"seconds": 10.0, "wall": 20.0, "cpu": 8.0, "threads": 1}
    assert anything.undisturbed(busy) == 4
    assert anything.undisturbed(busy | {"threads": 2}) == 2
    assert anything.undisturbed(busy | {"cpu": 21.0}) == anything.undisturbed({"seconds": 10.0}) == 10


def test_of_millimetres_the_most_is_the_worst() -> None:
    rows = [row(MM, "m", score, seconds=None) for score in (2.0, 3.0)]
    assert anything.cell([MM, MM], rows) == "2.50 / 3.00 / 1.00 %"


def test_a_record_of_a_pair_that_has_changed_does_not_count() -> None:
    assert anything.cell([replace(PAIR, seed=5)], [row(PAIR, "m", 0.5)]) == ""


def test_the_last_record_counts_and_methods_stand_beside_each_other() -> None:
    tune = replace(PAIR, name="a/t", split="tune")
    rows = [row(PAIR, "m", 0.1), row(PAIR, "n", 0.2), row(PAIR, "m", 0.3), row(tune, "n", 0.4)]
    ((_, table),) = anything.tables([PAIR, MM, tune], anything.last(rows), None)
    assert table == [
        ["split", "group", "n", "m", "n"],
        ["report", "a, dice", "1", "0.300 / 0.300 / 4.0 s / 1.00 %", "0.200 / 0.200 / 4.0 s / 1.00 %"],
        ["tune", "a, dice", "1", "–", "0.400 / 0.400 / 4.0 s / 1.00 %"],
    ]
    ((_, one),) = anything.tables([PAIR], anything.last(rows), ["n"])
    assert one[0] == ["split", "group", "n", "n"]


def test_pairs_are_chosen_by_split_and_group() -> None:
    tune = replace(PAIR, name="a/t", split="tune")
    assert anything.chosen([PAIR, MM, tune], ["report"], None) == [PAIR, MM]
    assert anything.chosen([PAIR, MM, tune], ["report", "tune"], ["a"]) == [PAIR, tune]


# -- methods ------------------------------------------------------------------------------------------


def test_options_follow_a_name() -> None:
    method = Product.from_text("dlir 15s=--model none --refine '15 s'")
    assert method.name == "dlir 15s"
    assert method.settings(PAIR) == {"options": ["--model", "none", "--refine", "15 s"]}
    assert Product.from_text("plain").settings(PAIR) == {"options": []}


def test_nothing_moves_nothing(tmp_path: Path) -> None:
    assert Nothing().register(PAIR, tmp_path, 1).transform.parts == ()


def test_each_peer_has_a_script() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(PEERS)


def test_a_process_has_its_threads_and_its_failure_is_told(tmp_path: Path) -> None:
    code = "import os, pathlib; pathlib.Path('{0}').write_text(os.environ['{1}'])"
    told = tmp_path / "threads"
    used = run_alone([sys.executable, "-c", code.format(told, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")], 3)
    assert told.read_text() == "3"
    assert used.wall > 0
    with pytest.raises(EvaluationError, match=r"^ValueError: too bad$"):
        run_alone([sys.executable, "-c", "raise ValueError('too bad')"], 1)
    with pytest.raises(EvaluationError, match="'python-of-no-one' cannot be run"):
        run_alone([tmp_path / "python-of-no-one"], 1)


def test_a_field_and_a_matrix_are_applied_in_this_order(tmp_path: Path) -> None:
    grid = ImageGrid((4, 5, 6), (2.0, 2.0, 2.0), (1.0, 2.0, 3.0))
    np.save(tmp_path / "field.npy", np.broadcast_to([1.0, 0.0, 0.0], (*grid.shape, 3)))
    matrix = np.diag([2.0, 1.0, 1.0, 1.0])
    parts = parts_of({"field": "field.npy", "matrix": matrix.tolist()}, tmp_path, grid)
    point = grid.center[None]
    np.testing.assert_allclose(CompositeTransform(tuple(parts)).apply(point), [[2 * (point[0, 0] + 1), *point[0, 1:]]])


def test_images_are_scaled_without_what_is_out_of_range() -> None:
    array = np.linspace(0, 100, 20**3, dtype=np.float32).reshape(20, 20, 20)
    array[0, 0, 0], array[-1, -1, -1] = -2048, 1e6
    found = scaled(Volume(array, ImageGrid((20, 20, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), "image")).array
    assert (found.min(), found.max(), found.dtype) == (0, 1, np.float32)
    assert found[10].mean() == pytest.approx(0.525, abs=0.02)
