"""The learning curves of a run as one picture, like the paper's Figures 5 and 10."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from dlir.io.writing import write_bytes

_COLORS = ("#4477aa", "#ee6677")
# With fewer points than this, each is marked.
_MARKED = 10


def draw_curves(history: Sequence[dict[str, float]], phases: Sequence[str], path: Path) -> None:
    """One panel for each phase: loss above, similarity of training and validation below. Raises OutputError."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [(name, rows) for k, name in enumerate(phases) if (rows := [row for row in history if row["phase"] == k])]
    figure = Figure(figsize=(max(4.0, 3.2 * len(shown)), 4.8), layout="constrained")
    for column, (name, rows) in enumerate(shown):
        iterations = [row["iteration"] for row in rows]
        above, below = (figure.add_subplot(2, len(shown), column + 1 + line * len(shown)) for line in (0, 1))
        above.set_title(name, fontsize=10)
        # The few rows of a first try would make no line.
        mark = "o" if len(rows) < _MARKED else None
        above.plot(iterations, [row["loss"] for row in rows], color=_COLORS[0], marker=mark, markersize=3)
        lines = (("training", "similarity"), ("validation", "validation_similarity"))
        for (label, key), color in zip(lines, _COLORS, strict=True):
            if all(key in row for row in rows):
                below.plot(iterations, [row[key] for row in rows], color=color, label=label, marker=mark, markersize=3)
        below.set_xlabel("iteration")
        if column == 0:
            above.set_ylabel("loss")
            below.set_ylabel("similarity")
            below.legend(fontsize=8, frameon=False)
        for axes in (above, below):
            axes.grid(alpha=0.25)
            axes.tick_params(labelsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    content = BytesIO()
    figure.savefig(content, format="png", dpi=130)
    write_bytes(path, content.getvalue())
