"""How the panel looks, at the narrowest that Slicer makes it and with room to spare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench

# Of pixels; Slicer's panel is some 400 wide at first, of which a scroll bar takes 16.
WIDTHS = (400, 700)


@pytest.fixture(params=WIDTHS)
def full(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """The panel after a registration with everything unfolded, and with names as long as they come."""
    bench.resize(request.param, 900)
    long = "1.2.840.113619 CINE SA stack 12 breath holds retrospective gating"
    bench.parameters.fixedVolume, bench.parameters.movingVolume = bench.volume(f"{long} ED"), bench.volume(f"{long} ES")
    bench.parameters.segmentations = [bench.segmentation(f"{long} contours", "Left ventricle", "Myocardium")]
    bench.parameters.fixedMask = bench.segmentation(f"{long} region", "Pericardium as drawn by the second reader")
    bench.unfold()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    bench.ui.trainingStatusLabel.text = "Training: stage 2, iteration 300."
    bench.ui.trainingStatusLabel.visible = True
    bench.ui.installLabel.text = "Python packages are missing: torch>=2.1,<3 is not installed."
    bench.ui.installWidget.visible = True
    bench.settle()
    return bench


def _visible(bench: Bench) -> dict[str, Any]:
    import pythonqt

    widgets = {name: pythonqt.unwrap(widget) for name, widget in vars(bench.ui).items()}
    return {name: w for name, w in widgets.items() if w.isWidgetType() and w.isVisible()}


def _left(bench: Bench, widget: Any) -> int:
    from PySide6.QtCore import QPoint

    return int(widget.mapTo(bench.area.widget(), QPoint(0, 0)).x())


def test_nothing_has_to_be_scrolled_sideways(full: Bench) -> None:
    assert full.area.horizontalScrollBar().maximum() == 0


def test_no_text_is_clipped(full: Bench) -> None:
    from PySide6.QtWidgets import QAbstractButton, QAbstractSpinBox, QLabel

    checked = 0
    for name, widget in _visible(full).items():
        if isinstance(widget, QLabel) and widget.wordWrap():
            needed = widget.heightForWidth(widget.width())
            assert needed <= widget.height() <= needed + 8, f"{name} is as high as its text"
        elif isinstance(widget, (QLabel, QAbstractButton)) and name != "curveLabel":
            assert widget.width() >= widget.minimumSizeHint().width(), name
            assert widget.height() >= widget.minimumSizeHint().height(), name
        elif isinstance(widget, QAbstractSpinBox):
            assert widget.width() >= widget.minimumSizeHint().width(), name
        else:
            continue
        checked += 1
    assert checked > 50


def test_texts_of_fixed_choices_fit(full: Bench) -> None:
    from PySide6.QtWidgets import QComboBox, QStyle, QStyleOptionComboBox

    for name, widget in _visible(full).items():
        box = widget if isinstance(widget, QComboBox) else getattr(widget, "box", None)
        if box is None or "1.2.840" in box.shown_text() if hasattr(box, "shown_text") else box is None:
            continue
        option = QStyleOptionComboBox()
        box.initStyleOption(option)
        control, field = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl.SC_ComboBoxEditField
        room = box.style().subControlRect(control, option, field, box).width()
        text = box.shown_text() if hasattr(box, "shown_text") else box.currentText()
        if name != "fixedMaskSegmentSelector":
            assert room >= box.fontMetrics().horizontalAdvance(text), name


def test_labels_and_fields_line_up_in_all_sections(full: Bench) -> None:
    from PySide6.QtWidgets import QFormLayout

    labels, fields, names = set(), set(), []
    for name, section in _visible(full).items():
        form = section.layout() if name.endswith("Button") else None
        if not isinstance(form, QFormLayout):
            continue
        for row in range(form.rowCount()):
            label = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
            field = form.itemAt(row, QFormLayout.ItemRole.FieldRole)
            if label is not None and field is not None:
                labels.add(_left(full, label.widget()))
                fields.add(_left(full, field.widget()))
                names.append(name)
    assert set(names) >= {"inputsButton", "moreInputsButton", "outputsButton", "lookButton", "trainButton"}
    assert len(labels) == 1
    assert len(fields) == 1


def test_widgets_do_not_overlap(full: Bench) -> None:
    from PySide6.QtCore import QRect

    places = []
    for name, section in _visible(full).items():
        if section.layout() is not None and name.endswith("Button"):
            inside = [w for w in section.children() if w.isWidgetType() and w.isVisible()]
            for row in (inside, *([c for c in w.children() if c.isWidgetType() and c.isVisible()] for w in inside)):
                places += [(name, a.geometry(), b.geometry()) for a in row for b in row if a is not b]
    assert len(places) > 100
    for name, first, second in places:
        assert QRect(first).intersected(second).isEmpty(), name


def test_it_is_calm_at_first_sight(bench: Bench) -> None:
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    steps = bench.ui.nextWidget.cpp
    bottom = steps.mapTo(bench.area.widget(), steps.rect().bottomLeft()).y()
    assert bottom <= 420, "verdict and next steps are seen without scrolling"
    unfolded = {name for name, widget in vars(bench.ui).items() if name.endswith("Button") and _is_open(widget)}
    assert unfolded == {"inputsButton", "lookButton"}


def _is_open(widget: Any) -> bool:
    return widget.className() == "ctkCollapsibleButton" and not widget.collapsed
