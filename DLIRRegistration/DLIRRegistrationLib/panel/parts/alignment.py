"""One column of labels through all sections."""

from __future__ import annotations

from typing import Any

import qt


def align_labels(sections: list[Any]) -> None:
    """Give the labels of all forms the width of the widest, so that the fields below each other line up."""
    labels = [label for section in sections for label in _labels(section.layout())]
    width = max(label.sizeHint.width() for label in labels)
    for label in labels:
        label.setMinimumWidth(width)


def _labels(form: Any) -> list[Any]:
    items = [form.itemAt(row, qt.QFormLayout.LabelRole) for row in range(form.rowCount())]
    return [item.widget() for item in items if item]
