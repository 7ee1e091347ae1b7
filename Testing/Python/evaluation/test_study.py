"""Studies: what is measured, what is left out, and that nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlir.data.pair import Pair, Scan
from dlir.errors import OutputError
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.study import RESULTS, Study
from dlir.io.writing import write_image
from dlir.transforms.files import load_transform
from evaluation_runs import GRID, Listed, Shift, shift_of, two_subjects
from segment_files import save_segmentation


@pytest.fixture
def data(tmp_path: Path) -> Listed:
    return two_subjects(tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def right() -> Shift:
    """Brings the first subject's "in" onto its "out": T sends fixed "in" points to moving "out" points."""
    return Shift("right", shift_of(0))


def test_a_perfect_method_scores_perfectly(data: Listed, folder: Path) -> None:
    rows = Study(folder).run(data, data.pairs()[:1], [Identity(), right()]).rows
    before, after = rows
    assert (before.method, after.method) == ("before", "right")
    assert before.pair == after.pair == "s00 out-to-in"
    np.testing.assert_allclose(before.before, np.linalg.norm(shift_of(0)), atol=1e-3)
    assert before.after == before.before == after.before
    np.testing.assert_allclose(after.after, 0, atol=1e-3)
    assert before.labels["core"].dice < 0.9
    assert after.labels["core"].dice > 0.9
    assert after.labels["shell"].asd < before.labels["shell"].asd
    assert after.topology.folding_percent == after.topology.sd == after.topology.log_sd == 0
    assert (before.seconds, after.seconds) == (None, 0.25)
    assert after.size == GRID.size


def test_there_and_back_is_consistent_if_the_method_is(data: Listed, folder: Path) -> None:
    """A shift applied both ways misses the start by twice itself."""
    there, back = Study(folder).run(data, data.pairs()[:2], [right()]).rows
    for row in (there, back):
        assert row.inverse_consistency is not None
        assert row.inverse_consistency.mean == pytest.approx(2 * np.linalg.norm(shift_of(0)), rel=1e-6)
    (alone,) = Study(folder / "alone").run(data, data.pairs()[:1], [right()]).rows
    assert alone.inverse_consistency is None


def test_a_rerun_does_only_what_is_missing(data: Listed, folder: Path) -> None:
    first = right()
    Study(folder).run(data, data.pairs()[:2], [first])
    assert len(first.calls) == 2
    again, other = right(), Shift("other", np.ones(3))
    outcome = Study(folder).run(data, data.pairs(), [again, other])
    assert len(again.calls) == 2  # the second subject alone
    assert len(other.calls) == 4
    assert [(row.pair, row.method) for row in outcome.rows] == [
        (pair.name, method) for pair in data.pairs() for method in ("right", "other")
    ]
    untouched = (folder / RESULTS).read_bytes()
    last = right()
    assert len(Study(folder).run(data, data.pairs(), [last]).rows) == 4
    assert last.calls == []
    assert (folder / RESULTS).read_bytes() == untouched


def test_a_run_that_was_killed_goes_on(data: Listed, folder: Path) -> None:
    method = right()
    Study(folder).run(data, data.pairs(), [method])
    lines = (folder / RESULTS).read_text().splitlines(keepends=True)
    (folder / RESULTS).write_text("".join(lines[:2]) + lines[2][:40])
    again = right()
    outcome = Study(folder).run(data, data.pairs(), [again])
    assert len(again.calls) == 2
    assert len(outcome.rows) == 4
    assert (folder / RESULTS).read_text() == "".join(lines)


def test_other_settings_or_another_start_are_other_results(data: Listed, folder: Path) -> None:
    Study(folder).run(data, data.pairs()[:2], [right()])
    changed = Shift("right", shift_of(0) + 1)
    assert len(Study(folder).run(data, data.pairs()[:2], [changed]).rows) == 2
    assert len(changed.calls) == 2
    elsewhere = right()
    Study(folder, "scanner").run(data, data.pairs()[:2], [elsewhere])
    assert len(elsewhere.calls) == 2


def test_the_same_settings_under_another_name_are_the_same_results(data: Listed, folder: Path) -> None:
    Study(folder).run(data, data.pairs()[:2], [right()])
    renamed = Shift("renamed", shift_of(0))
    outcome = Study(folder).run(data, data.pairs()[:2], [renamed])
    assert renamed.calls == []
    assert {row.method for row in outcome.rows} == {"renamed"}


def test_transforms_are_kept(data: Listed, folder: Path) -> None:
    study = Study(folder)
    (row, _) = study.run(data, data.pairs()[:2], [right()]).rows
    assert study.has_transform(row.transform)
    points = GRID.center[None]
    np.testing.assert_allclose(
        load_transform(study.transform_file(row.transform)).apply(points), points + shift_of(0), atol=1e-9
    )
    study.transform_file(row.transform).unlink()
    assert not study.has_transform(row.transform)


# -- what cannot be used -------------------------------------------------------------------------------


def spoiled(data: Listed, number: int, **changes: str) -> Listed:
    """The data set with changed files of the fixed scan of one pair."""
    pair = data.listed[number]
    fixed = Scan(**{**vars(pair.fixed), **changes})
    listed = [Pair(fixed if p.fixed == pair.fixed else p.fixed, fixed if p.moving == pair.fixed else p.moving)
              for p in data.listed]  # fmt: skip
    return Listed(listed, data.title, data.labels)


def test_an_image_that_cannot_be_read_costs_its_own_pairs_only(data: Listed, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.nrrd").write_bytes(b"NRRD0004\nnonsense")
    study, methods = Study(folder), [Identity(), right()]
    outcome = study.run(spoiled(data, 0, image=str(tmp_path / "broken.nrrd")), data.listed[:0], methods)
    assert outcome.rows == []
    broken = spoiled(data, 0, image=str(tmp_path / "broken.nrrd"))
    outcome = study.run(broken, broken.pairs(), methods)
    assert {row.fixed_subject for row in outcome.rows} == {"s01"}
    assert len(outcome.rows) == 4
    assert [p.pair for p in outcome.problems] == ["s00 out-to-in", "s00 in-to-out"]
    assert all("broken.nrrd" in p.message and not p.method for p in outcome.problems)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"label": ""}, "has no label map"), ({"label": "missing.nrrd"}, "does not exist")],
    ids=["none", "a file that is not there"],
)
def test_a_missing_label_map_costs_its_own_pairs_only(
    data: Listed, folder: Path, changes: dict[str, str], words: str
) -> None:
    wrong = spoiled(data, 0, **changes)
    outcome = Study(folder).run(wrong, wrong.pairs(), [Identity()])
    assert {row.fixed_subject for row in outcome.rows} == {"s01"}
    assert len(outcome.problems) == 2
    assert all(words in p.message for p in outcome.problems)


def test_a_structure_that_one_map_lacks_is_left_out(data: Listed, folder: Path, tmp_path: Path) -> None:
    pair = data.listed[0]
    label = pair.fixed.read_label(pair.fixed.read_image())
    assert label is not None
    write_image(tmp_path / "one.nrrd", (label.array == 1).astype(np.uint8), GRID)
    part = spoiled(data, 0, label=str(tmp_path / "one.nrrd"))
    outcome = Study(folder).run(part, part.pairs()[:1], [Identity()])
    assert outcome.problems == []
    assert list(outcome.rows[0].labels) == ["shell"]
    write_image(tmp_path / "none.nrrd", np.full(GRID.shape, 9, np.uint8), GRID)
    none = spoiled(data, 0, label=str(tmp_path / "none.nrrd"))
    outcome = Study(folder / "none").run(none, none.pairs()[:1], [Identity()])
    assert "no structure is in both label maps" in outcome.problems[0].message


def test_a_structure_of_two_values_is_a_problem(data: Listed, folder: Path, tmp_path: Path) -> None:
    label = data.listed[0].fixed.read_label(data.listed[0].fixed.read_image())
    assert label is not None
    for number, values in enumerate(((1, 2), (2, 1))):
        names = [("shell", 0, values[0]), ("core", 0, values[1])]
        save_segmentation(tmp_path / f"{number}.seg.nrrd", label.array[None], GRID, names)
    one, other = (str(tmp_path / f"{number}.seg.nrrd") for number in (0, 1))
    pair = data.listed[0]
    pairs = [Pair(replace(pair.fixed, label=one), replace(pair.moving, label=moving)) for moving in (one, other)]
    outcomes = [Study(folder / str(i)).run(data, [pair], [Identity()]) for i, pair in enumerate(pairs)]
    assert outcomes[0].problems == []
    assert "segment 'shell' has the value 1 in the fixed label map and 2" in outcomes[1].problems[0].message


def test_landmarks_that_do_not_correspond_are_a_problem(data: Listed, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "three.csv").write_text("1,2,3\n4,5,6\n7,8,9\n")
    wrong = spoiled(data, 0, landmarks=str(tmp_path / "three.csv"))
    outcome = Study(folder).run(wrong, wrong.pairs()[:1], [Identity()])
    assert "3 fixed and 4 moving landmarks" in outcome.problems[0].message


def test_a_method_that_fails_on_a_pair_is_asked_again_next_time(data: Listed, folder: Path) -> None:
    clumsy = Shift("clumsy", shift_of(0), failing=("s00/in",))
    outcome = Study(folder).run(data, data.pairs(), [Identity(), clumsy])
    assert [(p.pair, p.method) for p in outcome.problems] == [("s00 out-to-in", "clumsy")]
    assert sum(row.method == "clumsy" for row in outcome.rows) == 3
    healed = right()
    outcome = Study(folder).run(data, data.pairs(), [Identity(), healed])
    assert outcome.problems == []
    assert len(outcome.rows) == 8


def test_without_expected_labels_all_common_ones_are_scored(data: Listed, folder: Path) -> None:
    data.labels = {}
    (row, _) = Study(folder).run(data, data.pairs()[:2], [Identity()]).rows
    assert list(row.labels) == ["label 1", "label 2"]


def test_images_alone_give_topology_and_time(data: Listed, folder: Path) -> None:
    data.labels = {}
    plain = spoiled(data, 0, label="", landmarks="")
    plain.listed = [Pair(plain.listed[0].fixed, Scan("s00", "out", plain.listed[0].moving.image))]
    outcome = Study(folder).run(plain, plain.pairs(), [right()])
    assert outcome.problems == []
    assert outcome.rows[0].labels == {}
    assert outcome.rows[0].topology.min == 1


def test_a_mask_is_where_topology_counts(data: Listed, folder: Path, tmp_path: Path) -> None:
    mask = np.zeros(GRID.shape, bool)
    mask[3:5] = True
    write_image(tmp_path / "mask.nrrd", mask, GRID)
    masked = spoiled(data, 0, mask=str(tmp_path / "mask.nrrd"))
    (row,) = Study(folder).run(masked, masked.pairs()[:1], [right()]).rows
    assert row.masked


def test_what_is_no_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        Study(tmp_path / "file")
