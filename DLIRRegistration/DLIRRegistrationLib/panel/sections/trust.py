"""Can I trust it?: the places where the last result folds, and all its figures."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from DLIRRegistrationLib.display import views
from DLIRRegistrationLib.logic import MOST_FOLDS, Fold
from DLIRRegistrationLib.panel.section import Host, Section, silently
from DLIRRegistrationLib.panel.values import present

_ROWS_SHOWN = 14
_LINE_MARGIN = 6
# Pixels of a cell's width that its text does not get, at both sides.
_SIDES = 8
# Letters of a text that has both columns for itself.
_LONG = 18


def _hints() -> dict[str, str]:
    """What a measure means, where its name does not say."""
    return {
        "Similarity": _("How alike the brightness of both images is, where they lie on each other: 1 is the same."),
        "Local similarity": _("The same in small neighbourhoods, which sees details."),
        "Folding": _("Voxels in which the deformation turns tissue inside out, which is never anatomy."),
        "Jacobian": _("How volume changes from the fixed to the moving image: 1 not at all, 0.5 halved, 2 doubled."),
        "Error there and back": _(
            "Registered the other way round as well, a point should come back to where it was; so far off are most."
        ),
        "Displacement": _("So far or less move 95 % of the points."),
        "Distance from the model's images": _("How unlike the images are to those that the model has learned from."),
        "Distance to its networks": _("How unlike the pair looks to the model's networks."),
        "Error to expect": _("Estimated from how the result behaves; see Error map in “Compare”."),
        "Volume": _("In the moving image, and where it was carried over in the fixed one."),
        "Dice": _("Overlap of two outlines: 1 is the same, 0 is none."),
        "HD": _("Hausdorff distance: the largest distance between two outlines."),
        "ASD": _("Average distance between two surfaces."),
        "TRE": _("Target registration error: how far landmarks carried over end up from those of the fixed image."),
        "Chosen by distance": _("How unlike the images are to what each model was made for; its own keep about 1."),
        "Start": _(
            "Where the images lay on each other at first. Scanner positions: each where its scanner placed it, as if "
            "the patient had not moved. Image centres: the middle of the moving image on that of the fixed one. "
            "Centres of mass: the middle of what is bright."
        ),
        "Why this start": _("How alike the images were, looked at coarsely, in each start that was tried."),
    }


def _hint(measure: str) -> str | None:
    """By how its name begins."""
    found = [name for name in _hints() if measure.startswith(name)]
    return _hints()[max(found, key=len)] if found else None


class TrustSection(Section):
    """Shows the report table; the same figures stay in the scene as a table node."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._shown: tuple[Any, int] | None = None
        self._folds: list[Fold] = []
        self.ui.worstFoldButton.connect("clicked(bool)", self._on_worst_fold)
        self.ui.foldList.connect("itemClicked(QListWidgetItem*)", self._on_fold)
        self.ui.nextTrustButton.connect("clicked(bool)", self._on_next)

    def show(self) -> None:
        parameters = self.host.parameters
        table, jacobian = present(parameters.resultTable), present(parameters.resultJacobian)
        self.ui.reportTable.visible = table is not None
        self._show_folds(jacobian)
        if table is not None and self._shown != (table, table.GetMTime()):
            self._shown = (table, table.GetMTime())
            self._fill(table.GetTable())

    def _fill(self, table: Any) -> None:
        widget = self.ui.reportTable
        rows = [_cells(table, row) for row in range(table.GetNumberOfRows())]
        long = [not before and len(after) > _LONG for _measure, before, after in rows]
        widget.clearSpans()
        widget.setRowCount(len(rows))
        widget.setColumnCount(3)
        widget.setHorizontalHeaderLabels([_("Measure"), _("Before"), _("After")])
        for row, cells in enumerate(rows):
            for column, text in enumerate(("", "", "") if long[row] else cells):
                _put(widget, row, column, text, _hint(text) if column == 0 else None)
        header = widget.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        widget.resizeColumnToContents(1)
        widget.resizeColumnToContents(2)
        heights = widget.verticalHeader()
        heights.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        # Words would make a column of figures wide; they go across both.
        for row, (measure, _before, after) in enumerate(rows):
            if long[row]:
                widget.setSpan(row, 1, 1, 2)
                _put(widget, row, 0, measure, _hint(measure))
                _put(widget, row, 1, after)
                # Qt 5 would make it as high as if the words had one of the columns.
                heights.setSectionResizeMode(row, qt.QHeaderView.Fixed)
                words = _height(widget, after, widget.columnWidth(1) + widget.columnWidth(2))
                widget.setRowHeight(row, max(words, _height(widget, measure, widget.columnWidth(0))))
        line = widget.fontMetrics().height() + _LINE_MARGIN
        widget.setFixedHeight(min(len(rows), _ROWS_SHOWN) * line + header.sizeHint.height() + 2 * widget.frameWidth)

    def _show_folds(self, jacobian: Any) -> None:
        """Only where there are some: that nothing folds stands in the table."""
        found = self.host.logic.folds(jacobian) if jacobian is not None else []
        ui = self.ui
        for widget in (ui.foldList, ui.worstFoldButton):
            widget.visible = bool(found)
        ui.foldLabel.visible = bool(found) or jacobian is None
        if jacobian is None:
            ui.foldLabel.text = _("Where it folds is known with a Jacobian volume: leave it ticked in Outputs.")
        else:
            worst = (
                _("the {count} worst").format(count=len(found)) if len(found) == MOST_FOLDS else _("the worst first")
            )
            ui.foldLabel.text = _("Here tissue folds over itself, which is never anatomy; {worst}:").format(worst=worst)
        if found != self._folds:
            self._folds = found
            silently(ui.foldList, lambda: self._list(found))

    def _list(self, found: list[Fold]) -> None:
        self.ui.foldList.clear()
        for fold in found:
            self.ui.foldList.addItem(_place(fold))

    def _on_fold(self, item: Any = None) -> None:
        row = self.ui.foldList.currentRow
        if 0 <= row < len(self._folds):
            self._go_to(row)

    def _on_worst_fold(self) -> None:
        if self._folds:
            self.ui.foldList.setCurrentRow(0)
            self._go_to(0)

    def _on_next(self) -> None:
        """Its text has promised the folds, where there are some."""
        self._on_worst_fold()

    def _go_to(self, row: int) -> None:
        """A fold is red in the colours of the Jacobian, so these are shown."""
        self.write("showJacobian", True)
        views.jump_to(self._folds[row].position)


def _place(fold: Fold) -> str:
    sides = zip(fold.position, (("R", "L"), ("A", "P"), ("S", "I")), strict=True)
    where = " ".join(f"{names[value < 0]} {abs(value):.0f}" for value, names in sides)
    lowest = _("lowest {value:.2f}").format(value=fold.lowest)
    return _("{count} voxels, {lowest}, at {where} mm").format(count=fold.voxels, lowest=lowest, where=where)


def _cells(table: Any, row: int) -> tuple[str, str, str]:
    """What is measured, before, and after with its unit."""
    measure, before, after, unit = (
        table.GetValueByName(row, name).ToString() for name in ("Measure", "Before", "After", "Unit")
    )
    return measure, before, f"{after} {unit}".strip()


def _height(widget: Any, text: str, width: int) -> int:
    """Pixels that a cell of this width needs for the text in lines."""
    text_box = widget.fontMetrics().boundingRect(0, 0, width - _SIDES, 10000, qt.Qt.TextWordWrap, text)
    return text_box.height() + _LINE_MARGIN


def _put(widget: Any, row: int, column: int, text: str, hint: str | None = None) -> None:
    item = qt.QTableWidgetItem(text)
    item.setToolTip(hint or text)
    widget.setItem(row, column, item)
