"""Errors of the core reach the user of the panel without options of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import dlir

if TYPE_CHECKING:
    from panel_bench import Bench

CORE = Path(dlir.__file__).parent
# What these say is not shown as the failure of a registration.
NOT_SHOWN = {"applying", "cli", "cohort", "evaluation", "training"}
# Nor what is said of folders of image files: Slicer asks for arrays, in folders of the worker's own.
FOR_FILES = {"former.py", "surfaces.py"}


def _raised() -> Iterator[str]:
    """The text of every error that a registration may raise, with what is filled in as an ellipsis."""
    for file in sorted(CORE.rglob("*.py")):
        if file.relative_to(CORE).parts[0] in NOT_SHOWN or file.name in FOR_FILES:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise):
                texts = [part for part in ast.walk(node) if isinstance(part, ast.Constant | ast.FormattedValue)]
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in texts)


def test_no_error_of_a_registration_names_an_option(qt_application: Any) -> None:
    from DLIRRegistrationLib.panel.wording import in_panel_words

    texts = [text for text in _raised() if "--" in text]
    assert len(texts) >= 2
    for text in texts:
        assert not re.search(r"--\w", in_panel_words(text)), text


def _told() -> Iterator[str]:
    """Every step of a registration that progress is told of by a fixed word."""
    for folder in (CORE / "registration", CORE / "model", CORE.parent / "DLIRRegistrationLib" / "registration"):
        for file in sorted(folder.glob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and len(node.args) == 2 and isinstance(node.args[0], ast.Constant):
                    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    if called in ("progress", "_progress", "step", "timed"):
                        yield str(node.args[0].value)


def test_every_step_has_words_of_the_panel(qt_application: Any) -> None:
    from DLIRRegistrationLib.panel.wording import _steps, step_in_words

    told = set(_told())
    assert {"reading", "compose", "prepare", "nodes"} <= told
    assert told | {"preparing", "resampling"} <= set(_steps())  # the latter two as the session has them
    assert step_in_words("frame 3 of 9: compose") == "Frame 3 of 9: putting the steps together"
    assert step_in_words("stage 2 of 3") == "Stage 2 of 3"


def test_the_panel_offers_what_the_core_knows(qt_application: Any) -> None:
    from dlir.registration.choices import DEVICES, INITIALIZATIONS, KINDS, REFINEMENTS
    from DLIRRegistrationLib.panel.choices import Device, Kind, Refinement, Start

    assert tuple(device.value for device in Device) == DEVICES
    assert tuple(start.value for start in Start) == INITIALIZATIONS
    assert {kind.value for kind in Kind} == set(KINDS)
    assert tuple(choice.value for choice in Refinement) == (None, *REFINEMENTS)
    assert all(choice.label() for choice in (*Device, *Start, *Kind, *Refinement))


def test_labels_are_those_of_the_panel(bench: Bench) -> None:
    from DLIRRegistrationLib.panel.wording import _labels

    form = Path(bench.module.__file__).parent / "Resources" / "UI" / "DLIRRegistration.ui"
    stated = set(re.findall(r"<string>([^<]+):</string>", form.read_text(encoding="utf-8")))
    for label in _labels().values():
        name, _, choice = label.rpartition(" > ")[2].partition(": ")
        assert name in stated
        section = label.rpartition(" > ")[0]
        assert not section or f"<string>{section}</string>" in form.read_text(encoding="utf-8")
        box = {
            "Start from": bench.ui.initializeSelector,
            "Device": bench.ui.deviceSelector,
            "Kind": bench.ui.kindSelector,
            "Model": bench.ui.modelSelector,
        }.get(name)
        assert not choice or box is None or choice in [box.itemText(index) for index in range(box.count)]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "start from aligned centers (--initialize centers) or give an --initial-transform",
            "Start from aligned centers (“Start from: Centres on each other”) or give an “Initial transform”",
        ),
        (
            "use --device auto or --device cpu",
            "Use “Device: Automatic” or “Device: Processor (CPU)”",
        ),
    ],
)
def test_a_failure_is_shown_in_the_words_of_the_panel(bench: Bench, said: str, shown: str) -> None:
    bench.pair()
    bench.script.failure = (said, "error")
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert shown in bench.ui.statusLabel.text


def test_what_the_core_advises_for_files_is_said_for_slicer(qt_application: Any) -> None:
    """Each piece of advice is one that the core still gives."""
    from DLIRRegistrationLib.panel.wording import _advice, in_panel_words

    sources = "".join(file.read_text(encoding="utf-8") for file in CORE.rglob("*.py"))
    joined = re.sub(r'"\s*f?"', "", sources)
    for said, meant in _advice().items():
        assert said in joined
        assert in_panel_words(f"so it is; {said}") == f"so it is; {meant}"


def test_the_verdict_on_a_turned_image_says_where_to_look(bench: Bench) -> None:
    from dlir.registration.judging.verdict import Verdict

    said = "The moving image is turned by 90 degrees; is its orientation what its header says? Try --initialize 2."
    bench.widget.panel.host.status.verdict(Verdict("check", said))
    assert "letters at the edges of the views" in bench.ui.statusLabel.text
    assert "header" not in bench.ui.statusLabel.text
    assert "“Start from: Second best”" in bench.ui.statusLabel.text
