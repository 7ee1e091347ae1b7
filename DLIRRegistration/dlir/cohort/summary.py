"""What came of a batch, for programs and for people: a table of all rows, and a page that shows the worst first."""

from __future__ import annotations

import base64
import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dlir.cohort.folder import BatchFolder, Line
from dlir.cohort.picture import PANELS, PICTURE
from dlir.errors import shown
from dlir.io.page import Page
from dlir.io.source import reported_name, split_spec, without_folders
from dlir.io.text import as_cell
from dlir.io.writing import replacing, write_text
from dlir.registration.judging.verdict import LEVELS

# Of the worst results pictures are shown.
PICTURES = 12

COLUMNS = (
    "row",
    "pair",
    "fixed",
    "moving",
    "subject",
    "group",
    "split",
    "state",
    "verdict",
    "reason",
    "error",
    "ncc_before",
    "ncc_after",
    "dice_before",
    "dice_after",
    "tre_mm_before",
    "tre_mm_after",
    "folding_percent",
    "seconds",
    "model",
    "device",
    "notes",
)


def counts(lines: Sequence[Line]) -> dict[str, int]:
    """How many rows there are of each verdict; "error" are those that failed, "waiting" those to be done."""
    found = Counter(line.figures.verdict.level if line.figures else _state(line) for line in lines)
    return {name: found[name] for name in (*LEVELS, "error", "waiting")}


def write_table(path: Path, lines: Sequence[Line], *, full_paths: bool, durable: bool = True) -> None:
    """CSV: `COLUMNS`, then the Dice of each label before and after; text as `as_cell` has it. Raises OutputError."""
    labels = sorted({name for line in lines if line.figures for name in line.figures.labels})
    pairs = [f"dice_{when}_{name}" for name in labels for when in ("before", "after")]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*COLUMNS, *pairs], restval="", lineterminator="\n")
    writer.writerow({name: as_cell(name) for name in (*COLUMNS, *pairs)})
    for line in lines:
        writer.writerow({key: as_cell(shown(str(value))) for key, value in _cells(line, full_paths).items()})
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(text.getvalue().encode())


def records(lines: Sequence[Line], *, full_paths: bool) -> list[dict[str, object]]:
    """The rows of the table, for JSON; what is not known is left out."""
    return [{key: value for key, value in _cells(line, full_paths).items() if value != ""} for line in lines]


def _state(line: Line) -> str:
    return "done" if line.figures else "error" if line.error else "waiting"


def _cells(line: Line, full: bool) -> dict[str, object]:
    pair, found = line.row.pair, line.figures
    cells: dict[str, object] = {
        "row": line.row.number,
        "pair": line.row.name,
        "fixed": found.fixed if found else _named(pair.fixed.image, full),
        "moving": found.moving if found else _named(pair.moving.image, full),
        "subject": pair.subject or (pair.fixed.subject if pair.fixed.part else ""),
        "group": pair.group,
        "split": pair.split,
        "state": _state(line),
        "error": line.error if full else without_folders(line.error),
    }
    if found is None:
        return cells
    cells |= {"verdict": found.verdict.level, "reason": found.verdict.reason}
    for name, two in (("ncc", found.ncc), ("dice", found.dice), ("tre_mm", found.tre_mm)):
        cells |= _two(name, two)
    cells |= {"folding_percent": _rounded(found.folding_percent), "seconds": round(found.seconds, 2)}
    cells |= {"model": found.model, "device": found.device, "notes": "; ".join(found.notes)}
    for name, two in found.labels.items():
        cells |= {f"dice_{when}_{name}": _rounded(v) for when, v in zip(("before", "after"), two, strict=True)}
    return cells


def _two(name: str, two: tuple[float | None, float | None]) -> Mapping[str, object]:
    return {f"{name}_{when}": _rounded(value) for when, value in zip(("before", "after"), two, strict=True)}


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 5)


def _named(image: str, full: bool) -> str:
    """As a report names an image, be it there or not."""
    path, phase = split_spec(image)
    if os.path.exists(path) or full:
        return reported_name(os.path.abspath(path) + ("" if phase is None else f"#{phase}"), full=full)
    return os.path.basename(image)


# -- the page -----------------------------------------------------------------------------------------


def write_page(path: Path, title: str, lines: Sequence[Line], folder: BatchFolder, *, full_paths: bool) -> None:
    """A page of HTML that needs no other file. Raises OutputError."""
    page = Page(title, _lead(lines))
    ranked = sorted(lines, key=_badness)
    failed = [line for line in ranked if line.error]
    if failed:
        page.section("Not registered")
        errors = (line.error if full_paths else without_folders(line.error) for line in failed)
        page.problems([f"{line.row.name}: {shown(error)}" for line, error in zip(failed, errors, strict=True)])
    worst = [(line, picture) for line in ranked if line.figures and (picture := _picture(folder, line))][:PICTURES]
    if worst:
        page.section("The worst results", f"From left to right: {PANELS}.")
        for line, picture in worst:
            page.figure(picture, _caption(line))
    page.section("All rows", "The worst first.")
    page.table([_HEAD, *(_row(line) for line in ranked)], words=True)
    write_text(path, page.html())


_HEAD = ("row", "pair", "verdict", "Dice", "TRE (mm)", "NCC", "folding (%)", "seconds", "model", "reason")


def _row(line: Line) -> Sequence[str]:
    number, name, found = str(line.row.number), line.row.name, line.figures
    if found is None:
        return [number, name, _state(line), *[""] * 6, "see above" if line.error else ""]
    return [
        number,
        name,
        found.verdict.level,
        _arrow(found.dice, ".3f"),
        _arrow(found.tre_mm, ".2f"),
        _arrow(found.ncc, ".3f"),
        "" if found.folding_percent is None else f"{found.folding_percent:.4f}",
        f"{found.seconds:.1f}",
        found.model,
        found.verdict.reason,
    ]


def _arrow(two: tuple[float | None, float | None], form: str) -> str:
    before, after = ("–" if value is None else format(value, form) for value in two)
    return "" if two == (None, None) else f"{before} → {after}"


def _caption(line: Line) -> str:
    found = line.figures
    assert found is not None  # only results are shown
    two = (("Dice", found.dice, ".3f"), ("TRE (mm)", found.tre_mm, ".2f"), ("NCC", found.ncc, ".3f"))
    told = ", ".join(f"{name} {text}" for name, values, form in two if (text := _arrow(values, form)))
    return f"Row {line.row.number}, {line.row.name}. {found.verdict.level}: {found.verdict.reason} {told}."


def _lead(lines: Sequence[Line]) -> str:
    found = {name: count for name, count in counts(lines).items() if count}
    return f"{len(lines)} rows: {', '.join(f'{count} {name}' for name, count in found.items())}."


def _badness(line: Line) -> tuple[float, ...]:
    """Sorts the worst first: what failed, then by verdict, then by overlap, landmarks, and likeness."""
    found = line.figures
    if found is None:
        return (-2.0 if line.error else -1.0, line.row.number)
    nothing = float("inf")
    dice, tre, ncc = found.dice[1], found.tre_mm[1], found.ncc[1]
    return (
        float(len(LEVELS) - LEVELS.index(found.verdict.level)),
        nothing if dice is None else dice,
        nothing if tre is None else -tre,
        nothing if ncc is None else ncc,
    )


def _picture(folder: BatchFolder, line: Line) -> str:
    try:
        content = (folder.of(line.row) / PICTURE).read_bytes()
    except OSError:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
