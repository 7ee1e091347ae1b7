"""Register pairs of validation hippocampi with a DLIR model and print its figures, stage by stage, beside elastix's.

    python Benchmarks/hippocampus.py --data HIPPOCAMPUS --output FILE.jsonl --beside ELASTIX.jsonl

200 ordered pairs of the 40 validation subjects, drawn once and for all, none of which the shipped model has seen.
Labels are only measured, carried over with nearest neighbour through the exact transform of the stages so far. Prints
two markdown tables: all pairs, before registration and after each stage, and the pairs that `--beside` has too.
`--write-card` puts the means into the card of the model file.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hippocampus_pairs import (
    LABELS,
    PAIRS,
    Row,
    Subject,
    append_row,
    common_pairs,
    draw_pairs,
    make_row,
    markdown_table,
    read_rows,
    read_subjects,
)

from dlir.model.catalogue import resolve_model
from dlir.model.file import load_model, save_model
from dlir.registration.oneshot import Registration
from dlir.transforms.resample import jacobian_map, resample
from dlir.transforms.spatial import BSplineTransform, CompositeTransform

BEFORE = "before registration"


def register(registration: Registration, name: str, fixed: Subject, moving: Subject) -> Iterator[Row]:
    """One row before registration, one after each stage, the last under the model's own name."""
    start = time.perf_counter()
    result = registration(fixed.image, moving.image)
    seconds = time.perf_counter() - start
    parts = result.transform.parts
    stages = registration.spec.stages
    deformable = sum(isinstance(part, BSplineTransform) for part in parts)
    # The finest stage comes first, then the affine one, and the shift between the image centres last.
    for done in range(len(stages) + 1):
        bsplines = sum(stage.kind == "bspline" for stage in stages[:done])
        transform = CompositeTransform(parts[deformable - bsplines :] if done else parts[len(stages) :])
        label = resample(moving.label, moving.image.grid, transform, fixed.image.grid, mode="nearest")
        last = done == len(stages)
        determinant = result.jacobian if last else jacobian_map(transform, fixed.image.grid)
        method = BEFORE if not done else f"DLIR {name}" if last else f"DLIR {name}, stage {done}"
        yield make_row(method, fixed, moving, label.astype(np.uint8), determinant, seconds if last else 0.0)


def held_out_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over all pairs, for a model's card."""
    return {
        "data": f"{len(rows)} pairs of the 40 validation subjects",
        **{f"dice_{name}": round(statistics.fmean(row.dice[name] for row in rows), 3) for name in LABELS.values()},
        "folding_percent": round(statistics.fmean(row.folding_percent for row in rows), 4),
        "jacobian_sd": round(statistics.fmean(row.jacobian_sd for row in rows), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds images and labels")
    parser.add_argument("--model", default="hippocampus", help="name or file")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--beside", type=Path, help="rows of elastix")
    parser.add_argument("--output", type=Path, required=True, help="JSON-lines file, written anew")
    parser.add_argument("--write-card", action="store_true", help="keep the means in the model file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = resolve_model(options.model)
    model, header = load_model(path)
    registration = Registration(model, torch.device("cpu"))
    name = str(header.card["name"])
    subjects = read_subjects(options.data)
    options.output.unlink(missing_ok=True)
    for fixed, moving in draw_pairs(list(subjects), options.pairs):
        for row in register(registration, name, subjects[fixed], subjects[moving]):
            append_row(options.output, row)
    rows = read_rows(options.output)
    if options.write_card:
        own = [row for row in rows if row.method == f"DLIR {name}"]
        save_model(path, model, header.card | {"held_out": held_out_figures(own)})
    print(markdown_table(rows))
    if options.beside:
        print()
        print(markdown_table(common_pairs(rows + read_rows(options.beside))))


if __name__ == "__main__":
    main()
