"""How all charts of a report look, and how they get into the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's colours, which most people can tell apart; the first is for what was before.
_COLORS = ("#999999", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# Inches beside each panel, so that the ticks of two neighbours do not run into each other.
_BETWEEN = 0.08
_CHART_DPI, _PICTURE_DPI, _PICTURE_QUALITY = 110, 150, 82


def colors(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method, the same in all charts."""
    return {method: _COLORS[i % len(_COLORS)] for i, method in enumerate(methods)}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, drawn without a display."""
    figure = Figure(figsize=(width, height), facecolor="white", layout=ConstrainedLayoutEngine(w_pad=_BETWEEN))
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> None:
    """A frame of two lines, small ticks, a light grid behind."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color="#808080", linewidth=0.6)
    axes.tick_params(labelsize=8, length=2.5, width=0.6, color="#808080")
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def chart_uri(figure: Figure) -> str:
    """The figure as a data URI, without loss: for lines and letters."""
    return _uri(figure, "png", _CHART_DPI)


def picture_uri(figure: Figure) -> str:
    """The figure as a data URI, small: for images."""
    return _uri(figure, "webp", _PICTURE_DPI, {"quality": _PICTURE_QUALITY})


def _uri(figure: Figure, kind: str, dpi: int, encoding: dict[str, int] | None = None) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi, pil_kwargs=encoding)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
