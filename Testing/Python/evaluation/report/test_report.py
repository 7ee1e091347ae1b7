"""The whole report of a study of 40 pairs: complete, small, on its own, and as a browser shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from browser import take_screenshot
from cli_runs import make_model
from dlir.data.layouts import TESTED_ON
from dlir.data.layouts.folder import ImageFolder
from dlir.data.pair import Pair, Scan
from dlir.evaluation.methods.base import Method
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.methods.network import NetworkMethod
from dlir.evaluation.report.build import build_report
from dlir.evaluation.study import Evaluated, Outcome, Problem, Study
from evaluation_runs import Listed, Shift, shift_of, two_subjects, write_subjects

LIMIT_BYTES = 5_000_000


def evaluate(folder: Path, data: Listed | ImageFolder, methods: list[Method]) -> Evaluated:
    study = Study(folder)
    return Evaluated(study, data, data.pairs(), methods, study.run(data, data.pairs(), methods))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Four pairs, one of which cannot be read, before and by a method that is right for half of them."""
    folder = tmp_path_factory.mktemp("small")
    data = two_subjects(folder / "data")
    data.listed.append(Pair(Scan("s02", "in", "lost.nrrd"), data.listed[0].moving))
    return evaluate(folder / "out", data, [Identity(), Shift("shift", shift_of(0))])


@pytest.fixture(scope="module")
def page(small: Evaluated) -> str:
    return build_report(small)


def figures(page: str) -> list[str]:
    """Captions."""
    return re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)


def test_it_says_what_was_left_out(page: str) -> None:
    assert "Not evaluated" in page
    assert "1 of 5 pairs are missing" in page
    assert "lost.nrrd" in page
    assert "4 pairs of 2 subjects, 2 methods" in page


def test_every_figure_has_units_and_n(page: str) -> None:
    captions = figures(page)
    assert len(captions) == 7  # topology, labels, landmarks twice, three examples
    for caption in captions:
        assert re.search(r"n = \d+|n is the number", caption), caption
        assert re.search(r"\bmm\b|no unit|%", caption), caption


def test_methods_are_compared_by_landmarks_where_there_are_no_labels(small: Evaluated) -> None:
    rows = [replace(row, labels={}, transform="") for row in small.outcome.rows]
    rows += [replace(row, method="again") for row in rows if row.method == "shift"]
    captions = figures(build_report(replace(small, outcome=Outcome(rows, []))))
    (scatter,) = [caption for caption in captions if "Figures 9 and 15" in caption]
    assert scatter.startswith("Mean landmark error (mm), pair by pair: shift across")
    assert "Below the line the other method is better" in scatter


def test_it_says_on_what_each_reader_was_tested(page: str) -> None:
    for name, files in TESTED_ON.items():
        assert f"<td>{name}</td><td>{files}</td>" in unescape(page)


def test_an_example_that_cannot_be_shown_is_said_so(small: Evaluated) -> None:
    rows = [replace(row, transform="gone.h5") for row in small.outcome.rows]
    page = build_report(replace(small, outcome=Outcome(rows, [])))
    assert "Examples" not in page
    moved = [replace(pair, fixed=replace(pair.fixed, image="moved.nrrd")) for pair in small.pairs]
    page = unescape(build_report(replace(small, pairs=moved)))
    assert "cannot be shown: image 'moved.nrrd' does not exist" in page


def test_nothing_evaluated_is_a_report_of_problems(small: Evaluated) -> None:
    page = build_report(replace(small, outcome=Outcome([], [Problem("p", "", "it is <broken>")])))
    assert "it is &lt;broken&gt;" in page
    assert figures(page) == []


def test_a_broken_history_does_not_cost_the_report(small: Evaluated, tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text("{")
    page = build_report(replace(small, histories=[("run", tmp_path / "history.json")]))
    assert "history.json" in page
    assert "Results" in page


@pytest.mark.slow
def test_forty_pairs_open_in_a_browser(tmp_path: Path) -> None:
    data = ImageFolder(write_subjects(tmp_path / "hearts", 20))
    (tmp_path / "run").mkdir()
    model, cpu = make_model(tmp_path / "run" / "model.safetensors", scale=2.0), torch.device("cpu")
    rows = [{"phase": p, "iteration": i, "similarity": i / 30} for p in (0, 1) for i in (10, 20)]
    (tmp_path / "run" / "history.json").write_text(str(rows).replace("'", '"'))
    networks = [NetworkMethod(model, cpu, stages=k) for k in (1, 2)]
    evaluated = evaluate(tmp_path / "out", data, [Identity(), Shift("shift", shift_of(4)), *networks])
    evaluated = replace(evaluated, histories=[("tiny", tmp_path / "run" / "history.json")])
    page = build_report(evaluated)
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    assert path.stat().st_size < LIMIT_BYTES
    assert "40 pairs of 20 subjects, 4 methods" in page
    # topology, labels, scatter, landmarks twice, worst, median, its stages, best, curves
    assert len(figures(page)) == 10
    references = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert all(reference.startswith(("data:image/", "#s")) for reference in references)
    assert not re.search(r"https?:|url\(|@import|<script|<link", page)
    picture = tmp_path / "report.png"
    take_screenshot(path, picture, tmp_path / "profile", (1240, 6000))
    pixels = imread(picture)
    assert pixels.shape[1] == 1240
    marked = (pixels[..., :3].min(-1) < 0.9).any(1)
    assert marked[:200].any()
    assert marked[3000:].sum() > 1000  # pictures all the way down, and not an error page
    assert len(np.unique(pixels[::7, ::7, :3].reshape(-1, 3), axis=0)) > 500
