"""Notes, and the advice that goes with a package that is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from contextvars import copy_context
from importlib import metadata
from pathlib import Path

import pytest

from cli_runs import SOURCE
from dlir.errors import ImageNote, how_to_install, note, notes_kept, notes_to


class Installed:
    """A distribution, installed from a place that pip has noted, or by its name."""

    def __init__(self, place: dict[str, object] | None) -> None:
        self._place = place

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self._place is None else json.dumps(self._place)


def advised(place: dict[str, object] | None, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(place))
    return how_to_install("train")


def test_an_extra_is_installed_from_where_dlir_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "with space" / "dlir-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    assert advised({"url": wheel.as_uri()}, monkeypatch) == f"pip install '{wheel}[train]'"
    clone = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    assert advised(clone, monkeypatch) == f"pip install -e '{tmp_path}[train]'"
    wheel.unlink()
    assert advised({"url": wheel.as_uri()}, monkeypatch) == "pip install 'dlir-1.0-py3-none-any.whl[train]'"
    url = "https://example.org/dlir-1.0-py3-none-any.whl"
    assert advised({"url": url}, monkeypatch) == f"pip install 'dlir[train] @ {url}'"
    assert advised(None, monkeypatch) == "pip install 'dlir[train]'"


def test_an_extra_of_a_dlir_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Installed:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    assert how_to_install("train") == "pip install '.[train]' in a clone of DLIR"


def test_notes_go_to_the_innermost_listener_and_are_told_once() -> None:
    outer: list[str] = []
    inner: list[str] = []
    with notes_to(outer.append):
        note("before")
        with notes_to(inner.append):
            note("within")
            note("within")
        note("before")
    assert (outer, inner) == (["before"], ["within"])


def test_notes_that_are_kept_go_on() -> None:
    told: list[str] = []
    with notes_to(told.append):
        for _ in range(2):
            with notes_kept() as kept:
                note("seen")
                note("seen")
            assert kept == ["seen"]
    assert told == ["seen"]
    with pytest.warns(ImageNote, match="seen") as shown:
        _noted_twice()
    assert len(shown) == 1


def _noted_twice() -> None:
    with notes_kept():
        note("seen")
        note("seen")


def test_each_thread_has_its_own_listeners_unless_it_runs_in_a_copy_of_the_context() -> None:
    told: dict[str, list[str]] = {"main": [], "alone": [], "copy": []}

    def alone() -> None:
        with notes_to(told["alone"].append):
            begun.wait()
            note("alone")

    def copied() -> None:
        with notes_kept() as kept:
            begun.wait()
            note("copied")
        told["copy"] += kept

    begun = threading.Barrier(3)
    with notes_to(told["main"].append):
        workers = [threading.Thread(target=alone), threading.Thread(target=copy_context().run, args=(copied,))]
        for worker in workers:
            worker.start()
        begun.wait()
        note("main")
        for worker in workers:
            worker.join()
    assert (told["alone"], told["copy"]) == (["alone"], ["copied"])
    assert set(told["main"]) == {"main", "copied"}


def test_notes_can_be_silenced_or_refused_as_warnings_are() -> None:
    with warnings.catch_warnings(record=True) as shown:
        for filtering in ("ignore", "default"):
            warnings.simplefilter(filtering, ImageNote)
            note("once")
    assert len(shown) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageNote)
        with pytest.raises(ImageNote, match="refused"):
            note("refused")


def test_a_note_is_shown_each_time_and_not_once_for_each_line_of_ours() -> None:
    code = "from dlir.errors import note\nfor _ in range(3): note('again')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stderr.count("ImageNote: again") == 3


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE)}
