"""Reports as tables for people. rich is imported only when one is printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dlir.errors import shown

UNDEFINED = "–"


def number(value: float | None, form: str = ".3f") -> str:
    """The value, or a dash where it is not defined."""
    return UNDEFINED if value is None else format(value, form)


def print_table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table on stdout: columns of figures right, words and the first left; never cut where stdout is a file."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    filled = list(rows)
    for i, column in enumerate(columns):
        figures = i > 0 and not any(row[i][0].isalpha() for row in filled if row[i])
        table.add_column(column, justify="right" if figures else "left", overflow="fold")
    for row in filled:
        table.add_row(*(Text(shown(cell)) for cell in row))
    # A file has no width of its own: rich would assume 80 columns and fold names.
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


def print_report(report: dict[str, Any], folder: Path) -> None:
    """What a person wants to know of one registration, and where its files are."""
    similarity, jacobian = report["similarity"], report["jacobian"]
    rows = [[f"similarity ({similarity['measure']})", number(similarity["before"]), number(similarity["after"])]]
    for label, scores in report.get("labels", {}).items():
        before, after = scores["before"], scores["after"]
        if before["asd_mm"] is None and after["asd_mm"] is None:
            # Its Dice of 0 says nothing of the registration.
            rows.append([f"label {label}  in one label map only", "", ""])
            continue
        rows.append([f"label {label}  Dice", number(before["dice"]), number(after["dice"])])
        for name, key in (("HD (mm)", "hd_mm"), ("ASD (mm)", "asd_mm")):
            rows.append([f"         {name}", number(before[key], ".2f"), number(after[key], ".2f")])
    rows += _landmark_rows(report.get("landmarks"))
    print_table(None, ["", "before", "after"], rows)
    by_construction = ", excluded by construction" if report["fold_free_by_construction"] else ""
    print(f"folding   {number(jacobian['folding_percent'], '.4f')} % of voxels{by_construction}")
    spread = "  ".join(f"{name} {number(jacobian[name])}" for name in ("mean", "sd", "min", "max"))
    print(f"Jacobian  {spread}")
    if "error_map" in report:
        print(f"error     {_error(report['error_map'])}")
    print(f"start     {_start(report['initialization'])}")
    threads = f"{report['threads']} thread{'' if report['threads'] == 1 else 's'}"
    print(
        f"model     {model_in_words(report['model'])} on {report['device']} ({threads}), {_duration(report['seconds'])}"
    )
    layers = [name for key, name in report["outputs"].items() if key.startswith("warped_label")]
    for segment in report.get("segments", ()):
        print(f"segment   {segment['name']}: value {segment['value']} of {layers[segment['layer']]}")
    print(f"files     {folder}{'' if str(folder).endswith('/') else '/'}: {', '.join(report['outputs'].values())}")
    print(f"verdict   {report['verdict']['level']}: {report['verdict']['reason']}")


def _landmark_rows(landmarks: dict[str, Any] | None) -> list[list[str]]:
    """Target registration errors; none where the two images have no landmarks."""
    if landmarks is None:
        return []
    before, after = landmarks["before"], landmarks["after"]
    named = ((f"TRE, mean of {landmarks['count']} (mm)", "mean_mm"), ("     median (mm)", "median_mm"))
    return [[name, number(before[key], ".2f"), number(after[key], ".2f")] for name, key in named]


def model_in_words(model: dict[str, Any]) -> str:
    """Its name; where it was chosen, how far the images are from what each model was made for, and why it is none."""
    name = f"{model['name']}, because {model['reason']}" if "reason" in model else str(model["name"])
    if "distances" not in model:
        return name
    told = ", ".join(
        f"{name} {'of another size' if distance is None else format(distance, '.1f')}"
        for name, distance in model["distances"].items()
    )
    return f"{name} (chosen; distance of the images from what a model was made for: {told})"


def _start(initialization: dict[str, Any]) -> str:
    moved = f"{initialization['center_distance_mm']:.1f} mm between the centers"
    start = f"{initialization['mode']} ({moved}, overlap {100 * initialization['overlap']:.0f} %)"
    return start + (f"\n          {initialization['reason']}" if "reason" in initialization else "")


def _error(told: dict[str, Any]) -> str:
    """What the error map tells, of the whole and of each structure."""
    whole = f"to expect: median {number(told['median_mm'], '.1f')} mm, 95 % below {number(told['p95_mm'], '.1f')} mm"
    return "; ".join([whole, *(f"{name} {error:.1f} mm" for name, error in told["structures"].items())])


def _duration(seconds: dict[str, float]) -> str:
    around = {"read", "choose", "load", "labels", "figures", "verdict", "error map", "write"}
    inner = sum(value for name, value in seconds.items() if name not in around)
    return f"{inner:.2f} s (and {sum(seconds.values()) - inner:.2f} s to read, load, judge and write)"
