"""Slicer's `ctk`: the few widgets of it that the panel uses, with CTK's properties, sizes and signals."""

# ruff: noqa: N801, N802, N815
from __future__ import annotations

from typing import Any

import pythonqt
import qt
from PySide6.QtCore import Property, QEvent, QObject, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOption,
    QStyleOptionButton,
    QToolButton,
    QWidget,
)

_UNBOUNDED = 16777215


class ctkCollapsibleButton(QAbstractButton):
    """A title that folds what lies under it. A child hidden by itself stays hidden when the button unfolds."""

    contentsCollapsed = Signal(bool)
    SIGNALS = ("contentsCollapsed(bool)",)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._collapsed_height = 14
        self._forcing = False
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._title_size().height(), 0, 0)
        self.toggled.connect(lambda checked: self._collapse(not checked))

    def childEvent(self, event: Any) -> None:
        child = event.child()
        if event.type() == QEvent.Type.ChildAdded and child.isWidgetType():
            child.installEventFilter(self)
            self._show(child)
        super().childEvent(event)

    def eventFilter(self, child: QObject, event: QEvent) -> bool:
        if not self._forcing and event.type() in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent):
            child.setProperty("visibilityToParent", event.type() == QEvent.Type.ShowToParent)
            if event.type() == QEvent.Type.ShowToParent and self._collapsed:
                self._show(child)
        return False

    def setVisible(self, visible: bool) -> None:
        self._forcing = True
        super().setVisible(visible)
        self._forcing = False
        self._show_children()

    def sizeHint(self) -> QSize:
        title = self._title_size() + QSize(0, self._collapsed_height)
        return title if self._collapsed else super().sizeHint().expandedTo(title)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint() if self._collapsed else super().minimumSizeHint().expandedTo(self._title_size())

    def hitButton(self, position: QPoint) -> bool:
        return QRect(0, 0, self.width(), self._title_size().height()).contains(position)

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        title = QStyleOptionButton()
        title.initFrom(self)
        title.state |= QStyle.StateFlag.State_Raised
        title.rect.setHeight(self._title_size().height())
        self.style().drawControl(QStyle.ControlElement.CE_PushButtonBevel, title, painter, self)
        side = self.style().pixelMetric(QStyle.PixelMetric.PM_IndicatorWidth)
        margin = (title.rect.height() - side) // 2
        arrow = QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QRect(margin, margin, side, side)
        folded, unfolded = QStyle.PrimitiveElement.PE_IndicatorArrowRight, QStyle.PrimitiveElement.PE_IndicatorArrowDown
        self.style().drawPrimitive(folded if self._collapsed else unfolded, arrow, painter, self)
        text = title.rect.adjusted(margin + side + 6, 0, 0, 0)
        painter.drawText(text, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self.text())

    def _title_size(self) -> QSize:
        option = QStyleOptionButton()
        option.initFrom(self)
        side = self.style().pixelMetric(QStyle.PixelMetric.PM_IndicatorWidth)
        text = self.fontMetrics().size(Qt.TextFlag.TextShowMnemonic, self.text() or "XXXX")
        inner = QSize(text.width() + side + 6, max(text.height(), side))
        return self.style().sizeFromContents(QStyle.ContentsType.CT_PushButton, option, inner, self)

    def _collapse(self, collapsed: bool) -> None:
        if collapsed != self._collapsed:
            self._collapsed = collapsed
            self.setMaximumHeight(self.sizeHint().height() if collapsed else _UNBOUNDED)
            self._show_children()
            self.updateGeometry()
            self.contentsCollapsed.emit(collapsed)

    def _show_children(self) -> None:
        for child in self.children():
            if isinstance(child, QWidget):
                self._show(child)

    def _show(self, child: QWidget) -> None:
        if self.testAttribute(Qt.WidgetAttribute.WA_WState_Created):
            hidden_by_itself = child.property("visibilityToParent") is False
            self._forcing = True
            child.setVisible(not self._collapsed and not hidden_by_itself)
            self._forcing = False

    def _set_collapsed_height(self, height: int) -> None:
        self._collapsed_height = height
        self.updateGeometry()

    collapsed = Property(bool, lambda self: self._collapsed, lambda self, value: self.setChecked(not value))
    collapsedHeight = Property(int, lambda self: self._collapsed_height, _set_collapsed_height)


class ctkSliderWidget(QWidget):
    """A slider with a spin box beside it."""

    valueChanged = Signal(float)
    SIGNALS = ("valueChanged(double)",)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._box = QDoubleSpinBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._fit()
        self._slider.valueChanged.connect(lambda steps: self._box.setValue(self._minimum + steps * self._step))
        self._box.valueChanged.connect(self._on_value)

    _minimum = property(lambda self: self._box.minimum())
    _step = property(lambda self: self._box.singleStep())

    def _on_value(self, value: float) -> None:
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(round((value - self._minimum) / self._step))
        self._slider.blockSignals(blocked)
        self.valueChanged.emit(value)

    def _fit(self) -> None:
        self._slider.setRange(0, round((self._box.maximum() - self._minimum) / self._step))

    def _set(self, name: str, value: Any) -> None:
        getattr(self._box, name)(value)
        self._fit()

    value = Property(float, lambda self: self._box.value(), lambda self, value: self._box.setValue(value))
    minimum = Property(float, lambda self: self._box.minimum(), lambda self, value: self._set("setMinimum", value))
    maximum = Property(float, lambda self: self._box.maximum(), lambda self, value: self._set("setMaximum", value))
    singleStep = Property(
        float, lambda self: self._box.singleStep(), lambda self, value: self._set("setSingleStep", value)
    )
    decimals = Property(int, lambda self: self._box.decimals(), lambda self, value: self._set("setDecimals", value))


class ctkPathLineEdit(QWidget):
    """A path with its history and a button that browses for it."""

    Dirs, Files = 0x001, 0x002

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    SIGNALS = ("currentPathChanged(QString)", "validInputChanged(bool)")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QComboBox()
        self._box.setEditable(True)
        self._box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._browse = QToolButton()
        self._browse.setText("...")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._box)
        layout.addWidget(self._browse)
        self._valid = False
        self._box.editTextChanged.connect(self._on_text)
        self._filters = self.Files

    def _on_text(self, path: str) -> None:
        """An empty path is not valid, and is not told as a new one."""
        if path:
            self.currentPathChanged.emit(path)
        if bool(path) != self._valid:
            self._valid = bool(path)
            self.validInputChanged.emit(self._valid)

    def addCurrentPathToHistory(self) -> None:
        """Puts the path first in the list; on the way there, another path of the list may be the current one."""
        path = self._box.currentText()
        if not path:
            return
        former = self._box.findText(path)
        if former >= 0:
            self._box.removeItem(former)
        self._box.insertItem(0, path)
        self._box.setCurrentIndex(0)

    currentPath = Property(str, lambda self: self._box.currentText(), lambda self, path: self._box.setEditText(path))
    settingKey = Property(str, lambda self: "", lambda self, key: None)
    filters = Property(int, lambda self: self._filters, lambda self, value: setattr(self, "_filters", value))


for _name in (
    "ctkCollapsibleButton",
    "ctkPathLineEdit",
    "ctkSliderWidget",
):
    qt.custom_widgets.append(globals()[_name])
    globals()[_name] = pythonqt.class_of(globals()[_name])
