"""`dlir.register_many`: order, errors, overlap, and what is left behind."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlir
from cli_runs import Pair, make_model, snapshot, write_pair
from dlir.api import many
from dlir.data.pair import Pair as ListedPair
from dlir.data.pair import Scan
from dlir.errors import DLIRError, EvaluationError, ImageError, ImageNote, OptionError, OutputError, note, notes_to
from dlir.io import Landmarks, Volume, read_image, write_landmarks
from dlir.registration import loading, pipeline
from dlir.registration.session import Session


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    return write_pair(folder, make_model(folder / "tiny.safetensors"))


@pytest.fixture(scope="module")
def options(pair: Pair) -> dict[str, Any]:
    return {"model": pair.model, "device": "cpu"}


def figures(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in ("seconds", "peak_memory_mb", "outputs")}


def test_pairs_of_every_kind_come_back_in_order(pair: Pair, options: dict[str, Any], tmp_path: Path) -> None:
    both = {"moving_label": pair.moving_label, "fixed_label": pair.fixed_label}
    given = [
        (pair.fixed, pair.moving),
        {"fixed": pair.moving, "moving": pair.fixed, "output": tmp_path / "turned"},
        {"fixed": pair.fixed, "moving": pair.moving, **both, "output": tmp_path / "labelled"},
        [pair.fixed, pair.fixed],
    ]
    found = list(dlir.register_many(given, **options))
    named = [(result.report["fixed"]["file"], result.report["moving"]["file"]) for result in found]
    assert named == [
        ("fixed.nrrd", "moving.nrrd"),
        ("moving.nrrd", "fixed.nrrd"),
        ("fixed.nrrd", "moving.nrrd"),
        ("fixed.nrrd", "fixed.nrrd"),
    ]
    assert [bool(result.files) for result in found] == [False, True, True, False]
    alone = dlir.register(pair.fixed, pair.moving, **both, **options)
    assert figures(found[2].report) == figures(alone.report)
    np.testing.assert_array_equal(found[2].numpy().warped, alone.numpy().warped)
    assert {path.name for path in (tmp_path / "labelled").iterdir()} == set(found[2].report["outputs"].values())


def test_a_manifest_is_read(pair: Pair, options: dict[str, Any]) -> None:
    table = pair.folder / "pairs.csv"
    table.write_text(
        "fixed,moving,fixed_label,moving_label,model\n"
        f"fixed.nrrd,moving.nrrd,fixed_label.nrrd,moving_label.nrrd,{pair.model}\n"
        f"moving.nrrd,fixed.nrrd,moving_label.nrrd,,{pair.model}\n"
    )
    first, second = dlir.register_many(table, device="cpu")
    assert first.warped_label is not None
    assert first.report["labels"].keys() == {"1", "2"}
    assert second.warped_label is None


def test_a_listed_pair_brings_what_it_has(pair: Pair, options: dict[str, Any]) -> None:
    grid = read_image(pair.fixed).grid
    for scan in ("fixed", "moving"):
        index = read_image(getattr(pair, scan)).grid.to_index(grid.center)
        text = "index\n1\n" + " ".join(str(round(value)) for value in index)
        (pair.folder / f"{scan}.txt").write_text(text.removeprefix("index\n"))
    scans = [
        Scan(name, "", str(getattr(pair, name)), landmarks=str(pair.folder / f"{name}.txt"), indices=True)
        for name in ("fixed", "moving")
    ]
    (found,) = dlir.register_many([ListedPair(*scans)], **options)
    assert found.report["landmarks"]["count"] == 1
    bad = ListedPair(Scan("a", problem="a has no image"), scans[1])
    with pytest.raises(EvaluationError, match="a has no image"):
        list(dlir.register_many([bad], **options))


def test_an_error_is_raised_at_its_turn(pair: Pair, options: dict[str, Any]) -> None:
    given = [(pair.fixed, pair.moving), (pair.fixed, "nowhere.nrrd"), (pair.moving, pair.fixed)]
    results = dlir.register_many(given, **options)
    assert next(results).report["moving"]["file"] == "moving.nrrd"
    with pytest.raises(ImageError, match="nowhere"):
        next(results)
    assert list(results) == []


def test_an_error_is_given_in_the_place_of_its_result(pair: Pair, options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    given = [
        {"fixed": pair.fixed, "moving": "nowhere.nrrd", "output": tmp_path / "none"},
        {"fixed": pair.fixed, "moving": pair.moving, "output": tmp_path / "taken"},
        {"fixed": pair.fixed, "moving": pair.moving, "output": tmp_path / "good"},
        {"fixed": pair.fixed, "moving": pair.moving, "fixed_landmarks": [[0, 0, 0]]},
        3,
        (pair.fixed, pair.moving),
    ]
    found = list(dlir.register_many(given, on_error="return", **options))
    kinds = [type(one) for one in found]
    assert kinds == [ImageError, OutputError, dlir.Result, OptionError, OptionError, dlir.Result]
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "good"}


def test_an_error_of_ours_is_never_taken_for_a_pairs(
    pair: Pair, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any, **more: Any) -> Any:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(Session, "register", broken)
    with pytest.raises(ZeroDivisionError):
        list(dlir.register_many([(pair.fixed, pair.moving)], on_error="return", **options))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"output": "x"}, "an output of its own"),
        ({"moving_lable": "x"}, r"a pair has no 'moving_lable' \(did you mean 'moving_label'\?\)"),
    ],
)
def test_options_that_make_no_sense_are_told_at_once(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        dlir.register_many([], **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"moving_lable": "x"},
            r"a pair has no 'moving_lable' \(did you mean 'moving_label'\?\); give the arguments of",
        ),
        ({3: "x"}, r"a pair has no '3'; give the arguments of register"),
        ({"threads": 1}, r"'threads' holds for all pairs; give it to register_many itself"),
        ({"output": ""}, r"the output folder has no name; give one"),
    ],
)
def test_a_pair_is_told_which_of_its_keys_is_wrong(pair: Pair, changes: dict[Any, Any], words: str) -> None:
    given: list[Any] = [{"fixed": pair.fixed, "moving": pair.moving, **changes}, {"fixed": pair.fixed}]
    wrong, without = dlir.register_many(given, on_error="return")
    assert isinstance(wrong, DLIRError)
    assert re.match(words, str(wrong))
    assert isinstance(without, OptionError)
    assert str(without) == "a pair has no 'moving'; give both images"
    with pytest.raises(DLIRError, match=words):
        next(dlir.register_many(given))


def test_reading_and_writing_go_on_while_another_is_computed(
    pair: Pair, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is computed only when the next one is read and the one before is written, which would else wait for ever."""
    count, done, changed = 3, {"read": 0, "computed": 0, "written": 0}, threading.Condition()
    threads: dict[str, set[int]] = {part: set() for part in done}

    def watched(owner: Any, name: str, part: str) -> None:
        function = getattr(owner, name)

        def watch(*given: Any) -> Any:
            threads[part].add(threading.get_ident())
            with changed:
                number = done["computed"]
                if part == "computed":
                    assert changed.wait_for(
                        lambda: done["read"] >= min(number + 2, count) and done["written"] >= number, timeout=60
                    )
            found = function(*given)
            with changed:
                done[part] += 1
                changed.notify_all()
            return found

        monkeypatch.setattr(owner, name, watch)

    watched(loading, "load", "read")
    watched(Session, "register", "computed")
    watched(pipeline._Target, "written", "written")
    given = [{"fixed": pair.fixed, "moving": pair.moving, "output": tmp_path / str(number)} for number in range(count)]
    for number, result in enumerate(dlir.register_many(given, **options)):
        assert done["written"] > number
        assert all(path.is_file() for path in result.files.values())
    assert done == dict.fromkeys(done, count)
    # One thread for all files: what ITK prints while one is read is told of the right pair.
    assert threads["read"] == threads["written"] != threads["computed"] == {threading.get_ident()}


def test_no_more_than_the_next_pair_is_read_ahead(
    pair: Pair, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was given and dropped is no longer in memory."""
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    alive: list[weakref.ref[Volume]] = []
    counts: list[int] = []

    def endless() -> Iterator[tuple[Volume, Volume]]:
        while True:
            image = Volume(fixed.array.copy(), fixed.grid, "fixed")
            alive.append(weakref.ref(image))
            yield image, moving

    results = dlir.register_many(endless(), **options)
    for _ in range(4):
        result = next(results)
        counts.append(len(alive))
        del result
    assert counts == [2, 3, 4, 5]
    gc.collect()
    assert sum(reference() is not None for reference in alive) <= 2
    results.close()  # type: ignore[attr-defined]


def test_leaving_early_leaves_nothing_behind(pair: Pair, options: dict[str, Any], tmp_path: Path) -> None:
    given = [{"fixed": pair.fixed, "moving": pair.moving, "output": tmp_path / str(number)} for number in range(4)]
    results = dlir.register_many(given, **options)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dlir-files")]
    for folder in tmp_path.iterdir():
        assert (folder / "report.json").is_file()
        assert not [name for name in snapshot(folder) if name.startswith(".")]
    assert len(list(tmp_path.iterdir())) <= 2


def test_notes_of_the_reading_thread_reach_whoever_listens(
    pair: Pair, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loading.load

    def noted(*given: Any) -> Any:
        note("read with care")
        return load(*given)

    monkeypatch.setattr(loading, "load", noted)
    told: list[str] = []
    with notes_to(told.append):
        found = list(dlir.register_many([(pair.fixed, pair.moving)] * 2, **options))
    assert told == ["read with care"]  # told once, kept by each
    assert [result.report["notes"] for result in found] == [["read with care"]] * 2
    with pytest.warns(ImageNote, match="read with care"):
        list(dlir.register_many([(pair.fixed, pair.moving)], **options))


def test_what_a_pair_may_be_is_known() -> None:
    assert many._arguments({"fixed": 1, "moving": 2}) == {"fixed": 1, "moving": 2}
    for wrong in ("ab", (1, 2, 3), None):
        with pytest.raises(DLIRError, match="a pair is a"):
            many._arguments(wrong)  # type: ignore[arg-type]
    assert issubclass(OptionError, DLIRError)


def test_landmarks_in_a_file(pair: Pair, options: dict[str, Any]) -> None:
    center = read_image(pair.fixed).grid.center
    write_landmarks(pair.folder / "points.csv", Landmarks(center[None]))
    points = {"moving_landmarks": pair.folder / "points.csv", "fixed_landmarks": Landmarks(center[None])}
    (found,) = dlir.register_many([{"fixed": pair.fixed, "moving": pair.moving, **points}], **options)
    assert found.report["landmarks"]["count"] == 1
