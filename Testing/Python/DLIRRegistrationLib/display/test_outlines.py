"""Segmentations as outlines in a colour for each image, with the real display nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from DLIRRegistrationLib.display.outlines import FIXED_COLOR, WARPED_COLOR, hide_outlines, show_outlines

if TYPE_CHECKING:
    from mrml import MRML


def _drawn(scene: MRML, name: str) -> Any:
    node = scene.add("Segmentation", name)
    for segment in ("LV", "RV"):
        node.GetSegmentation().AddEmptySegment(segment, segment, (0.1, 0.2, 0.3))
    node.CreateDefaultDisplayNodes()
    return node


def _color(node: Any, segment: str) -> tuple[float, ...]:
    display = node.GetDisplayNode()
    own = display.GetSegmentOverrideColor(segment)
    return tuple(round(own[k], 6) for k in range(3))


def test_each_image_has_its_colour_and_nothing_is_filled(scene: MRML) -> None:
    fixed, warped, drawn = (_drawn(scene, name) for name in ("fixed", "warped", "drawn"))
    show_outlines([fixed], [warped], [drawn])
    for node, color in ((fixed, FIXED_COLOR), (warped, WARPED_COLOR)):
        display = node.GetDisplayNode()
        assert display.GetVisibility()
        assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (False, True)
        assert [_color(node, segment) for segment in ("LV", "RV")] == [color, color]
        assert node.GetSegmentation().GetSegment("LV").GetColor() == (0.1, 0.2, 0.3), "segments keep their own"
    assert not drawn.GetDisplayNode().GetVisibility()
    hide_outlines([fixed, warped])
    for node in (fixed, warped):
        assert not node.GetDisplayNode().GetVisibility()
        assert node.GetDisplayNode().GetVisibility2DFill()
        assert _color(node, "LV") == (-1.0, -1.0, -1.0)
