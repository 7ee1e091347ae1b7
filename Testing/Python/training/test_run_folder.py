"""The folder of a run: its options, who may write there, and what belongs to another run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from dlir.errors import ConfigError, OutputError
from dlir.training.run_folder import RunFolder, RunOptions
from training_runs import make_config


def begin(path: Path, seed: int = 0) -> RunFolder:
    folder = RunFolder(path)
    folder.begin(RunOptions(make_config(seed=seed), Path("data"), Path("cache")))
    return folder


def test_the_options_come_back_from_the_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begin(Path("run"), seed=3)
    monkeypatch.chdir("/")
    options = RunFolder(tmp_path / "run").resume(hold=False)
    assert options.config == make_config(seed=3)
    assert (options.data, options.cache) == (tmp_path / "data", tmp_path / "cache")


def test_a_folder_of_another_run_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    begin(tmp_path, seed=3)
    content = (tmp_path / "run.json").read_bytes()
    with pytest.raises(OutputError, match=r"already holds a run with another configuration \(seed: 3 -> 4\)"):
        begin(tmp_path, seed=4)
    with pytest.raises(OutputError, match=r"already holds a run; continue it with --resume"):
        begin(tmp_path, seed=3)
    assert (tmp_path / "run.json").read_bytes() == content


@pytest.mark.parametrize("name", ["last.pt", "history.json", "model.safetensors"])
def test_a_run_is_known_by_any_of_its_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(OutputError, match="already holds a run; continue"):
        begin(tmp_path)


def test_a_folder_without_a_run_cannot_be_continued(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"holds no run to continue \(run\.json is missing\)"):
        RunFolder(tmp_path).resume()


@pytest.mark.parametrize("content", ["", "{}", "[1", '{"config": {}, "data": "a", "cache": "b"}'])
def test_damaged_options_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json' is damaged"):
        RunFolder(tmp_path).resume()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        begin(tmp_path / "file" / "run")


def test_only_one_may_hold_a_run(tmp_path: Path) -> None:
    holder = begin(tmp_path / "run")
    with pytest.raises(OutputError, match="another process is training into"):
        RunFolder(tmp_path / "run").resume()
    RunFolder(tmp_path / "run").resume(hold=False)
    del holder
    RunFolder(tmp_path / "run").resume()


def test_a_folder_that_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OutputError, match=r"cannot lock the folder .*; choose another"):
        begin(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=begin, args=(tmp_path / "run",))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    RunFolder(tmp_path / "run").resume()


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_the_lock_ends_though_children_live_on(tmp_path: Path) -> None:
    """Those that prepare batches notice only after some seconds that their run was killed."""
    context = multiprocessing.get_context("fork")
    begun, done = context.Event(), context.Event()

    def hold_and_die() -> None:
        folder = begin(tmp_path / "run")
        if os.fork() == 0:
            begun.set()
            done.wait(60)
            os._exit(0)
        begun.wait(60)
        assert folder.holds_run
        os.kill(os.getpid(), signal.SIGKILL)

    process = context.Process(target=hold_and_die)
    process.start()
    try:
        while process.exitcode is None:  # join() would wait for what the child inherited, too
            time.sleep(0.01)
        assert begun.is_set()
        assert process.exitcode == -signal.SIGKILL
        RunFolder(tmp_path / "run").resume()
    finally:
        done.set()


def test_a_run_that_could_not_be_set_up_leaves_the_folder_to_another(tmp_path: Path) -> None:
    begin(tmp_path / "run", seed=1).abandon()
    begin(tmp_path / "run", seed=2)  # and let go of it
    resumed = RunFolder(tmp_path / "run")
    resumed.resume()
    resumed.abandon()  # it was there before
    assert resumed.holds_run


@pytest.mark.parametrize("name", ["best.safetensors", "curves.png", "tensorboard"])
def test_a_file_of_no_run_is_kept(tmp_path: Path, name: str) -> None:
    """A model that someone keeps there, under the name that a run gives its best, was written over."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name}' is there already, and of no run.*choose another folder"):
        begin(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]
    assert (tmp_path / "run" / name).read_text() == "mine"


def test_what_was_left_out_of_a_run_that_could_not_be_set_up_is_not_said_of_another(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run")
    folder.keep_left_out([{"what": "a.nrrd", "why": "damaged"}])
    folder.abandon()
    assert not (tmp_path / "run" / "left_out.json").exists()
    other = begin(tmp_path / "other")
    other.keep_left_out([{"what": "a.nrrd", "why": "damaged"}])
    assert (tmp_path / "other" / "left_out.json").exists()
    other.keep_left_out([])  # mended when the run goes on
    assert not (tmp_path / "other" / "left_out.json").exists()


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    begin(tmp_path / "run")  # and let go of it
    (tmp_path / "run" / ".dlir-1234.pt").write_bytes(b"half a checkpoint")
    RunFolder(tmp_path / "run").resume(hold=False)
    assert (tmp_path / "run" / ".dlir-1234.pt").exists()  # another process may be writing it
    RunFolder(tmp_path / "run").resume()
    assert not (tmp_path / "run" / ".dlir-1234.pt").exists()


@pytest.mark.parametrize("change", ["none", "seed"])
def test_only_the_same_configuration_may_be_named_again(tmp_path: Path, change: str) -> None:
    folder = begin(tmp_path, seed=1)
    if change == "none":
        folder.check_same(make_config(seed=1))
        return
    with pytest.raises(OutputError, match=r"holds a run with another configuration \(seed: 1 -> 2\); leave out"):
        folder.check_same(make_config(seed=2))
