"""Volumes over a cycle, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlir.cohort.cine.volumes import Ejection, Volumes
from dlir.io.writing import replacing

# Told apart by colour-blind people, too, and in print.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS = "osD^vP"


def draw_volumes(path: Path, volumes: Volumes, found: Sequence[Ejection], seconds: Sequence[float] | None) -> None:
    """Curves of the volumes in ml over the time, or over the phases where that is not known; end-diastole and
    end-systole marked.

    Raises ImportError where there is no matplotlib, OutputError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    times = list(range(len(volumes))) if seconds is None else [1000 * time for time in seconds]
    for k, one in enumerate(found):
        own = [row[one.name] for row in volumes]
        told = "" if one.ed_to_es_percent is None else f": {_change(one.ed_to_es_percent)}"
        color, marker = _COLORS[k % len(_COLORS)], _MARKERS[k % len(_MARKERS)]
        axes.plot(times, own, label=f"{one.name}{told}", color=color, marker=marker, markersize=3.5, linewidth=1.5)
    top = max(max(row.values()) for row in volumes)
    axes.set_ylim(0, 1.12 * top)
    if found[0].ed_phase != found[0].es_phase:
        for phase, name in ((found[0].ed_phase, "ED"), (found[0].es_phase, "ES")):
            axes.axvline(times[phase], color="#909090", linewidth=0.8, linestyle="--", zorder=0)
            axes.annotate(
                name,
                (times[phase], 1.12 * top),
                (0, -3),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=9,
                color="#505050",
                backgroundcolor="white",
            )
    axes.set_xlabel("phase" if seconds is None else "time (ms)")
    axes.set_ylabel("volume (ml)")
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(3, len(found)), frameon=False, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _change(percent: float) -> str:
    """From end-diastole to end-systole; what does not become smaller ejects nothing."""
    return f"EF {percent:.0f} %" if percent > 0 else f"{-percent:+.0f} % from ED to ES"
