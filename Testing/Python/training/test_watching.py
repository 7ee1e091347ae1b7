"""What can be watched of a run: TensorBoard's entries and the learning curves."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from disks import small_disk
from dlir.errors import OutputError
from dlir.training.curves import draw_curves
from dlir.training.validation import Pictures
from dlir.training.watching import Board, jacobian_shade

ROW = {"phase": 0.0, "iteration": 2.0, "loss": -0.5, "gradient_norm": 0.1, "validation_folding_percent": 0.0}


def pictures(size: int = 8) -> Pictures:
    rng = np.random.default_rng(0)
    return Pictures(*(rng.random((size, size), np.float32) for _ in range(3)))


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))  # type: ignore[no-untyped-call]
    return events.Reload()  # type: ignore[no-any-return,no-untyped-call]


def test_figures_and_pictures_are_written(tmp_path: Path) -> None:
    Board(tmp_path, 0).record("stage 1/2", 2, ROW, pictures())
    tags = read(tmp_path).Tags()  # type: ignore[no-untyped-call]
    assert set(tags["scalars"]) == {
        "training/loss, stage 1 of 2",
        "training/gradient_norm",
        "validation/folding_percent",
    }
    assert set(tags["images"]) == {"validation/fixed", "validation/warped", "validation/jacobian"}


def test_a_continued_run_replaces_what_came_after_its_checkpoint_and_nothing_before(tmp_path: Path) -> None:
    first = Board(tmp_path, 0)
    for iteration in (2, 4, 6):
        first.record("stage 1/2", iteration, ROW, None)
    # TensorBoard reads files in the order of their names: of the second they are from, then of a count, as text.
    time.sleep(1.1)
    Board(tmp_path, 4).record("stage 1/2", 6, {**ROW, "loss": -0.7}, None)
    losses = read(tmp_path).Scalars("training/loss, stage 1 of 2")  # type: ignore[no-untyped-call]
    assert [(entry.step, round(entry.value, 3)) for entry in losses] == [(2, -0.5), (4, -0.5), (6, -0.7)]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    board = Board(tmp_path, 0)
    with small_disk(2000), pytest.raises(OutputError, match=r"cannot write into '.*': File too large; free some"):
        board.record("stage 1/2", 2, ROW, pictures(64))
    assert capfd.readouterr().err == ""


def test_no_chart_mixes_what_two_phases_are_trained_for(tmp_path: Path) -> None:
    """A stage's similarity, and so its loss, is its own; the validation's is the same for all."""
    board = Board(tmp_path, 0)
    row = {**ROW, "similarity": 0.5, "bending": 0.1, "validation_similarity": 0.4}
    for iteration, phase in ((2, "stage 1/2"), (4, "stage 2/2")):
        board.record(phase, iteration, row, None)
    events = read(tmp_path)
    for name in ("loss", "similarity", "bending"):
        for iteration, phase in ((2, "stage 1 of 2"), (4, "stage 2 of 2")):
            (entry,) = events.Scalars(f"training/{name}, {phase}")  # type: ignore[no-untyped-call]
            assert entry.step == iteration
    assert len(events.Scalars("validation/similarity")) == 2  # type: ignore[no-untyped-call]


def test_every_panel_of_the_curves_has_one_quantity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **more: (drawn.append(self), save(self, *a, **more)))
    rows = [
        {"phase": phase, "iteration": k, "loss": -k / 9, "similarity": k / 9, "validation_similarity": k / 5}
        for phase in (0, 1)
        for k in (1, 2, 3)
    ]
    draw_curves(rows, ["stage 1/2", "stage 2/2"], tmp_path / "curves.png")
    (figure,) = drawn
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["loss", "similarity in training", "NCC in validation"]
    assert [len(axes.lines) for axes in figure.axes] == [1] * 6
    limits = [axes.get_ylim() for axes in figure.axes]
    assert limits[4] == limits[5]


def test_folding_is_bright_red() -> None:
    shade = jacobian_shade(np.array([[-0.1, 0.0], [1.0, 5.0]], np.float32))
    np.testing.assert_array_equal(shade, [[[1, 0, 0], [1, 0, 0]], [[0.5] * 3, [1] * 3]])


@pytest.mark.parametrize("count", [1, 40])
def test_curves_show_something_however_few_the_rows(tmp_path: Path, count: int) -> None:
    """The loss is drawn above, where no legend could be mistaken for it."""
    history = [{"phase": 0, "iteration": k, "loss": -k / 50, "similarity": k / 50} for k in range(1, count + 1)]
    draw_curves(history, ["stage 1/1"], tmp_path / "curves.png")
    image = imread(tmp_path / "curves.png")[..., :3]
    blue = np.abs(image[: len(image) // 2] - np.array((68, 119, 170)) / 255).max(-1) < 0.02
    assert blue.sum() > 20
