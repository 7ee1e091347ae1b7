"""The figures of one registration as a table node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import vtk

from dlir.registration.results.rows import Row

COLUMNS = tuple(field.name.capitalize() for field in fields(Row))


def fill_table(table_node: Any, rows: list[Row]) -> None:
    """Make a table node hold these rows and nothing else."""
    fill_columns(
        table_node, ((vtk.vtkStringArray(), name, [vars(row)[name.lower()] for row in rows]) for name in COLUMNS)
    )


def fill_columns(table_node: Any, columns: Iterable[tuple[Any, str, Iterable[Any]]]) -> None:
    """Make a table node hold these columns and nothing else: an empty vtkAbstractArray, name and values of each."""
    table = vtk.vtkTable()
    for column, name, values in columns:
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
    table_node.SetAndObserveTable(table)
    table_node.SetUseColumnTitleAsColumnHeader(True)
    table_node.SetLocked(True)


def volume_figures(before_ml: Mapping[str, float], after_ml: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """`report["volumes"]` from segment volumes on the moving image and, propagated, on the fixed one, by name."""
    return {name: {"before_ml": before_ml[name], "after_ml": after_ml[name]} for name in before_ml if name in after_ml}


def rows_of(table_node: Any) -> list[Row]:
    """The rows that `fill_table` has put into a table node."""
    table = table_node.GetTable()
    return [
        Row(*(table.GetValueByName(number, name).ToString() for name in COLUMNS))
        for number in range(table.GetNumberOfRows())
    ]
