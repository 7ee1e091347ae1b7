"""Learning curves, in the manner of Figures 5 and 10."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dlir.errors import EvaluationError
from dlir.evaluation.report.style import new_figure, tidy

HISTORY = "history.json"

_WIDTH, _HEIGHT = 2.6, 2.5


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a run's history.json. Raises EvaluationError where it is none."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not all({"phase", "iteration", "similarity"} <= set(row) for row in rows):
            raise ValueError("a row lacks its phase, iteration or similarity")
    except (OSError, ValueError, TypeError) as error:
        raise EvaluationError(f"history '{path}' cannot be read ({error}); leave it out or train again") from None
    return list(rows)


def learning_curves(histories: Sequence[tuple[str, Sequence[dict[str, Any]]]], stage_names: Sequence[str]) -> Figure:
    """Negative similarity in training (thin) and validation (thick) against iterations; one panel per phase.

    histories: name and rows of each run. stage_names: of the first phases; a further one is the fine-tuning of all.
    """
    phases = sorted({int(row["phase"]) for _, rows in histories for row in rows})
    figure = new_figure(max(1, len(phases)) * _WIDTH + 0.4, _HEIGHT)
    panels = figure.subplots(1, len(phases), squeeze=False, sharey=True)[0]
    for axes, phase in zip(panels, phases, strict=True):
        tidy(axes)
        points = 0
        for number, (name, rows) in enumerate(histories):
            own = [row for row in rows if row["phase"] == phase]
            points += len(own)
            for key, label, width in (("similarity", "training", 0.9), ("validation_similarity", "validation", 1.8)):
                known = [(row["iteration"], -row[key]) for row in own if key in row]
                if known:
                    axes.plot(
                        *zip(*known, strict=True),
                        color=f"C{number}",
                        lw=width,
                        marker=".",
                        ms=3,
                        label=f"{name}, {label}",
                    )
        title = stage_names[phase] if phase < len(stage_names) else "all stages"
        axes.set_title(f"{title}, n = {points} points", fontsize=8.5, loc="left")
        axes.set_xlabel("iterations", fontsize=8)
    panels[0].set_ylabel("negative similarity (NCC, no unit)", fontsize=8)
    panels[-1].legend(fontsize=7, frameon=False)
    return figure
