"""The report of one pair as a page of HTML that needs no other file: verdict, what has changed, figures, pictures.

Needs no torch: who has the images looks them up on the `slices`, each by means of its own.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import ImageGrid, upright
from dlir.io.page import Page
from dlir.registration.results.rows import Row, changes, report_rows

PAGE = "report.html"
PANELS = (
    "fixed image, warped image, both laid over each other before and after (fixed in cyan, moving in red), and how "
    "volume changes from fixed to moving: blue shrinks, orange grows, bright red folds"
)

# Parts of the image, across its slices, that are shown.
_SHOWN = (0.3, 0.5, 0.7)
# The longer side of a panel, and what is between two, in pixels.
_SIDE, _GAP = 220, 4
# Percent of a slice's values between black and white.
_WINDOW = (1.0, 99.5)
# Of the JPEG, in percent.
_QUALITY = 88
# Colours of a determinant that halves and one that doubles, and of a fold.
_SHRINKS, _GROWS, _FOLDS = (0.13, 0.4, 0.85), (0.95, 0.55, 0.1), (255, 20, 20)


@dataclass(frozen=True, eq=False)
class Plane:
    """What lies on one of the `slices`, (rows, columns) each.

    before, after: the moving image as it was and as it has been warped. jacobian: None where it is not known.
    """

    name: str
    fixed: NDArray[Any]
    before: NDArray[Any]
    after: NDArray[Any]
    jacobian: NDArray[Any] | None


def slices(fixed: ImageGrid, worst: NDArray[np.float64] | None = None) -> dict[str, ImageGrid]:
    """(1, rows, columns) each: slices across the thickest axis, of square pixels, by name.

    worst: LPS mm, where the deformation folds most; the slice there is the first.
    """
    view = upright(fixed)
    last = view.size[2] - 1
    numbers = {f"Slice {round(part * last) + 1} of {last + 1}": float(round(part * last)) for part in _SHOWN}
    if worst is not None:
        at = float(np.clip(round(float(view.to_index(worst[None])[0, 2])), 0, last))
        numbers = {f"Where it folds most, slice {int(at) + 1} of {last + 1}": at, **numbers}
    lengths = np.maximum((np.array(view.size[:2]) - 1) * view.spacing[:2], 1e-6)
    pixel = float(lengths.max()) / (_SIDE - 1)
    columns, rows = (max(1, round(float(length) / pixel) + 1) for length in lengths)
    step = (pixel / view.spacing[0], pixel / view.spacing[1], 1)
    return {name: view.lattice((0, 0, number), step, (columns, rows, 1)) for name, number in numbers.items()}


def worst_fold(jacobian: NDArray[Any], grid: ImageGrid) -> NDArray[np.float64] | None:
    """LPS mm: where a determinant (z, y, x) on a grid is lowest; None where nothing folds."""
    lowest = np.unravel_index(int(np.argmin(np.nan_to_num(jacobian, nan=-np.inf))), jacobian.shape)
    if jacobian[lowest] > 0:
        return None
    place: NDArray[np.float64] = grid.to_physical(np.array([lowest[::-1]], float))[0]
    return place


def report_page(report: Mapping[str, Any], planes: Sequence[Plane]) -> str:
    """The page of a registration's report."""
    names = (report["moving"]["file"], report["fixed"]["file"])
    verdict = report["verdict"]
    return pair_page(names, verdict["level"], verdict["reason"], changes(report), report_rows(report), planes)


def pair_page(
    names: tuple[str, str],
    level: str,
    reason: str,
    changed: Sequence[str],
    rows: Sequence[Row],
    planes: Sequence[Plane],
) -> str:
    """The page of a registered pair. names: of the moving and the fixed image. changed: as of `changes`."""
    page = Page(f"{names[0]} registered to {names[1]}", f"{level.capitalize()}. {reason}")
    page.section("What has changed")
    for sentence in changed:
        page.text(sentence)
    page.section("Pictures", f"From left to right: {PANELS}.")
    for plane in planes:
        page.figure(_picture(plane), plane.name)
    page.section("Figures")
    told = [[row.measure, row.before, f"{row.after} {row.unit}".strip()] for row in rows]
    page.table([["measure", "before", "after"], *told], words=True)
    page.text("The verdict is a program's. Look at the pictures before you rely on the result.")
    return page.html()


def _picture(plane: Plane) -> str:
    """A data URI of the panels of one slice."""
    import SimpleITK as sitk

    panels = pair_panels(plane.fixed, plane.before, plane.after)
    if plane.jacobian is not None:
        panels.append(_colours(plane.jacobian, panels[0][..., 0]))
    row = in_a_row(panels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.jpg")
        sitk.WriteImage(sitk.GetImageFromArray(row, isVector=True), str(path), True, _QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"


def pair_panels(fixed: NDArray[Any], before: NDArray[Any], after: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """(rows, columns, 3) each, of one slice: fixed, warped, and both laid over each other before and after."""
    still, was, now = (_shades(values) for values in (fixed, before, after))
    alone = [np.stack(channels, -1) for channels in ([still] * 3, [now] * 3)]
    return [*alone, *(np.stack((moving, still, still), -1) for moving in (was, now))]


def in_a_row(panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(rows, columns, 3): panels of one size from left to right, with a gap between two."""
    gap = np.full((panels[0].shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)


def _shades(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.percentile(values, _WINDOW)
    shades: NDArray[np.uint8] = (np.clip((values - low) / max(float(high - low), 1e-12), 0, 1) * 255).astype(np.uint8)
    return shades


def _colours(jacobian: NDArray[Any], below: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, columns, 3): a determinant over an image, the stronger the more it differs from 1."""
    folded = ~(jacobian > 0)
    change = np.clip(np.log2(np.where(folded, 1, jacobian)), -1, 1)[..., None]
    colour = np.where(change < 0, np.array(_SHRINKS), np.array(_GROWS)) * 255
    part = 0.85 * np.abs(change)
    drawn: NDArray[np.uint8] = (below[..., None] * (1 - part) + colour * part).astype(np.uint8)
    drawn[folded] = _FOLDS
    return drawn
