"""Deformation grid and arrows over the slices, drawn by Slicer's own transform display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("slicer", reason="needs slicer-core")

from DLIRRegistrationLib.display import deformation
from DLIRRegistrationLib.display.layout import look_along_slices
from mrml import SliceView
from slice_pictures import GRID, half_bright

if TYPE_CHECKING:
    from mrml import MRML

SHIFT = 8.0


def shifted(scene: MRML, fixed: Any) -> Any:
    """A transform that moves everything SHIFT mm along the x axis of the fixed image on the way to the parent."""
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT * GRID.direction_matrix[:, 0] * (-1, -1, 1)
    node = scene.linear_transform(matrix)
    node.SetNodeReferenceID(node.GetFixedNodeReferenceRole(), fixed.GetID())
    return node


def view_of(scene: MRML, fixed: Any) -> SliceView:
    view = SliceView(scene)
    view.show(fixed)
    look_along_slices(view.logic, fixed)
    return view


def drawn(view: SliceView, png: Path | None = None) -> NDArray[np.bool_]:
    """Where something coloured is."""
    picture = view.pixels(png).astype(int)
    return np.ptp(picture, axis=-1) > 40


def test_grid_is_drawn_and_goes_away(scene: MRML, tmp_path: Path) -> None:
    fixed = half_bright(scene, "fixed", left=True)
    transform, view = shifted(scene, fixed), view_of(scene, fixed)
    assert not drawn(view).any()
    deformation.show_grid(transform, True)
    lines = drawn(view, tmp_path / "grid.png")
    # 16 cells across 63 mm (7 x 9), in a view of 60 mm height: lines at about that distance, both ways.
    cell = 63 / 16 * view.size[1] / view.node.GetFieldOfView()[1]
    assert _runs(lines.mean(0) > 0.8) == pytest.approx(view.size[0] / cell, rel=0.15)
    assert _runs(lines.mean(1) > 0.8) == pytest.approx(view.size[1] / cell, rel=0.15)
    deformation.show_grid(transform, False)
    assert not drawn(view).any()


def test_arrows_are_as_long_as_the_motion(scene: MRML, tmp_path: Path) -> None:
    fixed = half_bright(scene, "fixed", left=True)
    transform, view = shifted(scene, fixed), view_of(scene, fixed)
    deformation.show_glyphs(transform, True)
    display = transform.GetDisplayNode()
    display.SetGlyphSpacingMm(40)
    arrows = drawn(view, tmp_path / "arrows.png")
    rows = np.flatnonzero(arrows.any(1))
    per_mm = view.size[1] / view.node.GetFieldOfView()[1]
    widths = [_longest_run(arrows[row]) for row in rows]
    heights = [_longest_run(arrows[:, column]) for column in np.flatnonzero(arrows.any(0))]
    assert max(*widths, *heights) == pytest.approx(SHIFT * per_mm, rel=0.1)
    deformation.show_glyphs(transform, False)
    assert not drawn(view).any()


def test_grid_and_arrows_together_and_apart(scene: MRML) -> None:
    fixed = half_bright(scene, "fixed", left=True)
    transform, view = shifted(scene, fixed), view_of(scene, fixed)
    deformation.show_grid(transform, True)
    grid = drawn(view)
    deformation.show_glyphs(transform, True)
    both = drawn(view)
    assert both.sum() > grid.sum()
    deformation.show_grid(transform, False)
    assert 0 < drawn(view).sum() < both.sum()
    deformation.show_glyphs(transform, False)
    deformation.show_grid(transform, True)
    assert np.array_equal(drawn(view), grid)
    assert transform.GetNumberOfDisplayNodes() == 2


def test_region_and_spacing_come_from_the_fixed_image(scene: MRML) -> None:
    fixed = half_bright(scene, "fixed", left=True)
    transform = shifted(scene, fixed)
    deformation.show_grid(transform, True)
    display = transform.GetDisplayNode()
    assert display.GetRegionNode() is fixed
    assert display.GetGridSpacingMm() == pytest.approx(63 / 16)
    assert not display.GetVisibility3D()
    other = half_bright(scene, "other", left=True)
    deformation.show_grid(transform, True, other)
    assert display.GetRegionNode() is other


def test_a_transform_that_knows_no_image_is_drawn_too(scene: MRML) -> None:
    node = scene.linear_transform(np.eye(4))
    deformation.show_grid(node, False)
    assert node.GetNumberOfDisplayNodes() == 0
    deformation.show_grid(node, True)
    assert node.GetDisplayNode().GetGridSpacingMm() == pytest.approx(15)


@pytest.mark.parametrize("show", [deformation.show_grid, deformation.show_glyphs])
def test_views_draw_it_once(scene: MRML, show: Any) -> None:
    """Each change is drawn in every view, which takes long."""
    transform = scene.add("Transform", "transform")
    show(transform, True)
    drawn: list[None] = []
    transform.GetDisplayNode().AddObserver("ModifiedEvent", lambda *_: drawn.append(None))
    for count, on in enumerate((False, True), 1):
        show(transform, on)
        assert len(drawn) == count


def test_nothing_is_drawn_while_views_are_turned(scene: MRML) -> None:
    transform = scene.add("Transform", "transform")
    deformation.show_grid(transform, True)
    deformation.show_glyphs(transform, True)
    deformation.show_glyphs(transform, False)
    displays = [transform.GetNthDisplayNode(index) for index in range(2)]
    with deformation.undrawn():
        assert [bool(display.GetVisibility2D()) for display in displays] == [False, False]
    assert [bool(display.GetVisibility2D()) for display in displays] == [True, False]


def test_the_user_is_told_which_way_each_picture_points() -> None:
    assert "contraction" in deformation.CAVEAT


def _longest_run(line: NDArray[np.bool_]) -> int:
    edges = _edges(line)
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _runs(line: NDArray[np.bool_]) -> int:
    """How many; a drawn line may be two pixels wide."""
    return len(_edges(line)) // 2


def _edges(line: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
