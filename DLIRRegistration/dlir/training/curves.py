"""The learning curves of a run as one picture, like the paper's Figures 5 and 10."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from dlir.io.writing import write_bytes

_COLOR = "#4477aa"
_SHARED = "validation_similarity"
# From top to bottom: what the history calls it, and the axis.
_LINES = (("loss", "loss"), ("similarity", "similarity in training"), (_SHARED, "NCC in validation"))
# With fewer points than this, each is marked.
_MARKED = 10


def draw_curves(history: Sequence[dict[str, float]], phases: Sequence[str], path: Path) -> None:
    """A column for each phase: its loss, its similarity in training, its similarity in validation. Raises OutputError.

    These are no two of them the same: a phase is trained for a similarity of its own, weighs the bending energy in its
    own way, and is validated by the global correlation, which alone has one scale in all phases.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [(name, rows) for k, name in enumerate(phases) if (rows := [row for row in history if row["phase"] == k])]
    lines = [(key, label) for key, label in _LINES if any(key in row for row in history)]
    figure = Figure(figsize=(max(4.0, 3.2 * len(shown)), 2.4 * len(lines)), layout="constrained")
    grid = figure.subplots(len(lines), len(shown), squeeze=False, sharex="col")
    for column, (name, rows) in enumerate(shown):
        grid[0, column].set_title(name, fontsize=10)
        grid[-1, column].set_xlabel("iteration")
        # The few rows of a first try would make no line.
        mark = "o" if len(rows) < _MARKED else None
        for axes, (key, label) in zip(grid[:, column], lines, strict=True):
            known = [(row["iteration"], row[key]) for row in rows if key in row]
            if known:
                axes.plot(*zip(*known, strict=True), color=_COLOR, marker=mark, markersize=3)
            if key == _SHARED and column:
                axes.sharey(grid[lines.index((key, label)), 0])
            if column == 0:
                axes.set_ylabel(label, fontsize=8.5)
            axes.grid(alpha=0.25)
            axes.tick_params(labelsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    content = BytesIO()
    figure.savefig(content, format="png", dpi=130)
    write_bytes(path, content.getvalue())
