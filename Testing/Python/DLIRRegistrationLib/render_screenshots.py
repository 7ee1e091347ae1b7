"""Draws the slice-view pictures of README and docs from the sample that ships: `python render_screenshots.py [FOLDER]`.

FOLDER is Resources/Screenshots by default. The views are Slicer's own, without the application around them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from DLIRRegistrationLib.display import deformation, views
from DLIRRegistrationLib.display.layout import look_along_slices
from mrml import MRML
from sample_registration import SampleNodes, register_sample, sample_nodes
from slicer_windows import Windows, write_png

SCREENSHOTS = Path(__file__).resolve().parents[3] / "Resources" / "Screenshots"
LARGEST_BYTES = 300_000


def overlay_before(nodes: SampleNodes) -> None:
    """The moving image over the fixed one, with the contour drawn on the moving image."""
    views.show_pair(nodes.fixed, nodes.moving)
    views.show_before(True, nodes.fixed, nodes.moving, nodes.warped, [nodes.moving_contour], [nodes.propagated])


def overlay_after(nodes: SampleNodes) -> None:
    """The warped image over the fixed one, with the propagated contour."""
    overlay_before(nodes)
    views.show_before(False, nodes.fixed, nodes.moving, nodes.warped, [nodes.moving_contour], [nodes.propagated])


def jacobian(nodes: SampleNodes) -> None:
    """The Jacobian map with legend and deformation grid."""
    views.show_jacobian(nodes.fixed, nodes.jacobian)
    deformation.show_grid(nodes.transform, True)


def checkerboard_before(nodes: SampleNodes) -> None:
    """A checkerboard of fixed and moving image."""
    views.show_pair(nodes.fixed, nodes.moving)
    views.set_checkerboard(True)


def checkerboard_after(nodes: SampleNodes) -> None:
    """A checkerboard of fixed and warped image."""
    views.show_pair(nodes.fixed, nodes.warped)
    views.set_checkerboard(True)


def side_by_side(nodes: SampleNodes) -> None:
    """Fixed, warped and Jacobian, with the propagated contour."""
    views.show_side_by_side(nodes.fixed, nodes.warped, nodes.jacobian)
    nodes.propagated.SetDisplayVisibility(True)


_SINGLE: tuple[Callable[[SampleNodes], None], ...] = (
    overlay_before,
    overlay_after,
    checkerboard_before,
    checkerboard_after,
)


def main(folder: Path) -> None:
    """Writes each picture into `folder` under the name of its function. Fails for one that is too large to ship."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in _SINGLE:
        _draw(draw, folder, (460, 480))
    _draw(jacobian, folder, (440, 580))  # with room for the legend below the anatomy
    _draw(side_by_side, folder, (350, 440))


def _draw(draw: Callable[[SampleNodes], None], folder: Path, size: tuple[int, int]) -> None:
    mrml = MRML()
    windows = Windows(mrml, size)
    with tempfile.TemporaryDirectory() as work:
        nodes = sample_nodes(mrml, register_sample(), Path(work))
        for contour in (nodes.moving_contour, nodes.propagated):
            contour.SetDisplayVisibility(False)
        draw(nodes)
        for view in windows.shown:
            look_along_slices(view.logic, nodes.fixed)
        path = folder / f"{draw.__name__.replace('_', '-')}.png"
        write_png(path, windows.picture())
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
        if path.stat().st_size > LARGEST_BYTES:
            raise SystemExit(f"{path} is larger than {LARGEST_BYTES / 1000:.0f} kB")
    windows.close()
    mrml.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SCREENSHOTS)
