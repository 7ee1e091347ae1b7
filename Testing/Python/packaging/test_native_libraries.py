"""What `make test` does about missing system libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

import native_libraries
from native_libraries import BROWSERS, PACKAGES, QT, VTK_CHOICES, advice, missing

Absent = Callable[[set[str]], set[str]]


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Absent:
    """Makes the system lack some libraries; the set it returns may be changed later."""

    def lack(names: set[str]) -> set[str]:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(native_libraries, "_loads", lambda name: name not in names)
        return names

    return lack


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have run, by the administrator of a system that has apt-get."""
    commands: list[list[str]] = []
    monkeypatch.setattr(native_libraries.subprocess, "run", lambda command, **rest: commands.append(command))
    monkeypatch.setattr(native_libraries.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(native_libraries.os, "geteuid", lambda: 0, raising=False)
    return commands


def test_one_whole_choice_is_enough(absent: Absent) -> None:
    absent({"libEGL.so.1"})
    assert missing(*VTK_CHOICES) == []
    assert missing(QT) == ["libEGL.so.1"]
    absent({"libEGL.so.1", "libOSMesa.so.8"})
    assert missing(*VTK_CHOICES) == ["libEGL.so.1"]


def test_advice_names_library_and_package() -> None:
    assert advice(["libEGL.so.1", "libX11.so.6"]) == (
        "no libEGL.so.1, libX11.so.6; install them (Debian, Ubuntu: apt install libegl1 libx11-6)"
    )


def test_other_systems_lack_nothing(absent: Absent, monkeypatch: pytest.MonkeyPatch) -> None:
    absent(set(PACKAGES))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert missing(QT) == []


def test_nothing_is_said_or_done_where_all_is_there(
    absent: Absent, apt: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    absent(set())
    native_libraries.main()
    assert apt == []
    assert capsys.readouterr().out == ""


def test_the_administrator_gets_what_is_missing(
    absent: Absent, apt: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    absent({"libdbus-1.so.3", "libfontconfig.so.1"})
    native_libraries.main()
    assert [command[-1] for command in apt] == ["update", "libdbus-1-3", "libfontconfig1"]
    printed = capsys.readouterr().out
    assert "Installing libdbus-1-3 libfontconfig1" in printed
    assert "will be skipped" in printed, "the installation has changed nothing here"


def test_others_are_told(
    absent: Absent, apt: list[list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent({"libxkbcommon.so.0"})
    monkeypatch.setattr(native_libraries.os, "geteuid", lambda: 1000)
    native_libraries.main()
    assert apt == []
    assert "will be skipped: no libxkbcommon.so.0; install them" in capsys.readouterr().out


def test_a_browser_is_got_where_there_is_none(
    absent: Absent, apt: list[list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent({"libOSMesa.so.8"})
    monkeypatch.setattr(native_libraries.shutil, "which", lambda name: None if name in BROWSERS else f"/usr/bin/{name}")
    native_libraries.main()
    assert [command[-1] for command in apt] == ["update", "chromium"]
    assert "report will be skipped: no browser (chromium, " in capsys.readouterr().out, "none has come"
    monkeypatch.setattr(native_libraries.os, "geteuid", lambda: 1000)
    native_libraries.main()
    assert len(apt) == 2
    assert "apt install chromium" in capsys.readouterr().out


def test_a_second_way_to_draw_is_not_asked_for(
    absent: Absent, apt: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """OSMesa is gone from newer systems; EGL serves."""
    absent({"libOSMesa.so.8"})
    native_libraries.main()
    assert apt == []
    assert capsys.readouterr().out == ""
