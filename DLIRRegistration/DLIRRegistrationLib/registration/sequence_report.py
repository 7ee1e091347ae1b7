"""The figures of a registered sequence: one row for each frame, and one verdict for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import slicer
import vtk

from dlir.registration.judging.verdict import Verdict, worst_of
from DLIRRegistrationLib.registration.report import fill_columns

_NAN = float("nan")

Report = dict[str, Any]


def frame_table(values: Sequence[str], reports: Sequence[Report | None], volumes: Sequence[dict[str, float]]) -> Any:
    """A table node, outside of the scene, with numbers that can be plotted over the frames.

    values: the index value of each frame. reports: as of single registrations; None for the reference frame.
    volumes: of each structure on each frame, in ml, by name.
    """
    columns: list[tuple[Any, str, Iterable[Any]]] = [
        (vtk.vtkIntArray(), "Frame", range(1, len(values) + 1)),
        (vtk.vtkStringArray(), "Index", values),
    ]
    for name, section, key, neutral in (
        ("NCC before", "similarity", "before", 1.0),
        ("NCC after", "similarity", "after", 1.0),
        ("Folded voxels", "jacobian", "folding_count", 0),
        ("Smallest Jacobian", "jacobian", "min", 1.0),
        ("Largest Jacobian", "jacobian", "max", 1.0),
    ):
        figures = [neutral if report is None else report[section][key] for report in reports]
        columns.append((vtk.vtkDoubleArray(), name, (_NAN if figure is None else figure for figure in figures)))
    columns += [(vtk.vtkDoubleArray(), f"{name} (ml)", (own[name] for own in volumes)) for name in volumes[0]]
    node = slicer.vtkMRMLTableNode()
    fill_columns(node, columns)
    return node


def worst_verdict(reports: Sequence[Report | None]) -> Verdict:
    """The verdict on the frame that gives most reason to doubt; the reason says which one that is, from 1."""
    judged = {number: Verdict.from_report(report) for number, report in enumerate(reports, 1) if report is not None}
    return worst_of(judged, "frame")
