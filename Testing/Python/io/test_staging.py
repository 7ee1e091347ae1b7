"""What runs that were killed leave in a folder is tidied up by the next one, and nothing of a run that goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dlir.errors import OutputError, notes_to
from dlir.io import staging
from dlir.io.writing import OutputFolder, settle, write_text

_FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")


def _stages(folder: Path) -> list[Path]:
    return sorted(folder.glob(".dlir-*"))


def _killed(folder: Path, *, moving: bool = False) -> None:
    """A run in a process of its own that is killed while it writes, or before the second of its files is moved."""
    if (pid := os.fork()) == 0:
        try:
            with OutputFolder(folder) as outputs:
                for name in ("z", "a", "last"):
                    write_text(outputs.file(name), f"new {name}")
                if not moving:
                    os.kill(os.getpid(), 9)
                replace, moved = os.replace, []

                def counted(source: Path, target: Path) -> None:
                    moved.append(target)
                    if len(moved) == 2:
                        os.kill(os.getpid(), 9)
                    replace(source, target)

                os.replace = counted  # type: ignore[assignment]
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9


@contextmanager
def _running(folder: Path) -> Iterator[Path]:
    """A run in a process of its own that goes on meanwhile; gives its hidden folder."""
    before, (told, tell), (wait, end) = set(_stages(folder)), os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        try:
            with OutputFolder(folder) as outputs:
                write_text(outputs.file("slow"), "slow")
                os.write(tell, b".")
                os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        os.read(told, 1)
        (stage,) = set(_stages(folder)) - before
        yield stage
    finally:
        os.write(end, b".")
        os.waitpid(pid, 0)


def _publish(folder: Path, name: str = "mine") -> list[str]:
    """Another run; the notes that it told."""
    notes: list[str] = []
    with notes_to(notes.append), OutputFolder(folder) as outputs:
        write_text(outputs.file(name), name)
    return notes


def _age(stage: Path, days: float) -> None:
    for path in (*stage.rglob("*"), stage):
        stat = path.stat()
        os.utime(path, (stat.st_atime - days * 86_400, stat.st_mtime - days * 86_400))


@_FORKS
def test_the_next_run_removes_what_a_killed_one_had_half_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("former")
    _killed(tmp_path)
    assert len(_stages(tmp_path)) == 1
    (note,) = _publish(tmp_path)
    assert str(tmp_path) in note
    assert "killed" in note
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "former", "mine": "mine"}
    assert _publish(tmp_path) == []


@_FORKS
def test_the_next_run_finishes_what_a_killed_one_had_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("former")
    _killed(tmp_path, moving=True)
    assert (tmp_path / "z").exists()
    assert not (tmp_path / "last").exists()
    _publish(tmp_path)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"z": "new z", "a": "new a", "last": "new last", "mine": "mine"}


@_FORKS
def test_a_run_that_goes_on_is_left_alone_however_old_it_is(tmp_path: Path) -> None:
    with _running(tmp_path) as stage:
        _age(stage, 100)
        assert _publish(tmp_path) == []
        assert (stage / "new" / "slow").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "slow"]


def test_a_run_of_this_process_is_left_alone_and_may_end_in_another_thread(tmp_path: Path) -> None:
    outputs = OutputFolder(tmp_path)
    opener = threading.Thread(target=outputs.__enter__)
    opener.start()
    opener.join()
    write_text(outputs.file("slow"), "slow")
    assert _publish(tmp_path) == []
    outputs.__exit__(None, None, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "slow"]
    assert not _stages(tmp_path)


def _elsewhere(stage: Path) -> None:
    (stage / "host").write_text("another-computer")


def _without_lock(stage: Path) -> None:
    for name in ("host", "lock"):
        (stage / name).unlink()


@_FORKS
@pytest.mark.parametrize("unknown", [_elsewhere, _without_lock])
def test_of_what_nothing_is_known_goes_only_what_is_half_written_and_old(
    tmp_path: Path, unknown: Callable[[Path], None]
) -> None:
    """Of another computer on a network drive, or of a disk that knows no locks."""
    _killed(tmp_path)
    (stage,) = _stages(tmp_path)
    unknown(stage)
    _age(stage, 6)
    assert _publish(tmp_path) == []
    assert stage.exists()
    _age(stage, 2)
    assert len(_publish(tmp_path)) == 1
    assert not stage.exists()


@_FORKS
@pytest.mark.parametrize("unknown", [_elsewhere, _without_lock])
def test_of_what_nothing_is_known_finished_and_former_files_stay(
    tmp_path: Path, unknown: Callable[[Path], None]
) -> None:
    _killed(tmp_path, moving=True)
    (stage,) = _stages(tmp_path)
    unknown(stage)
    _age(stage, 100)
    assert _publish(tmp_path, "a") == []
    assert (tmp_path / "a").read_text() == "a"
    assert sorted(path.name for path in (stage / "ready").iterdir()) == ["a", "last"]
    assert settle(tmp_path, alone=True)  # who knows that nobody writes there
    assert (tmp_path / "a").read_text() == "new a"
    assert not _stages(tmp_path)


def test_a_disk_without_locks_is_written_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: Path) -> None:
        raise NotImplementedError("this file system has no locks")

    monkeypatch.setattr(staging, "_taken", no_locks)
    with OutputFolder(tmp_path) as outputs:
        (stage,) = _stages(tmp_path)
        assert not (stage / "host").exists()
        write_text(outputs.file("slow"), "slow")
        assert _publish(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "slow"]


def test_what_only_looks_alike_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".dlir-batch" / "errors").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "host").write_text("mine")
    (tmp_path / ".dlir-abcd1234").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".dlir-notes.txt").write_text("mine")
    (tmp_path / ".dlir-0123abcd.csv").write_text("being written now")
    for path in tmp_path.rglob("*"):
        if not path.is_symlink() and path.name != ".dlir-0123abcd.csv":
            os.utime(path, (0, 0))
    assert not settle(tmp_path)
    assert len(_stages(tmp_path)) == 4
    os.utime(tmp_path / ".dlir-0123abcd.csv", (0, 0))
    assert settle(tmp_path)
    assert not (tmp_path / ".dlir-0123abcd.csv").exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        ".dlir-abcd1234",
        ".dlir-batch",
        ".dlir-notes.txt",
        "elsewhere",
        "errors",
        "host",
    ]


def test_a_folder_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="has no name; give one"):
        OutputFolder("")
