"""Register ED and ES of ACDC patients with a DLIR model and print its figures beside those of other methods.

    python Benchmarks/accuracy.py --data ACDC --output results/dlir_cine.jsonl --beside results/elastix_cine.jsonl

Patients 081-100, both directions, none of which the shipped model has seen. Labels are only measured, carried
over with nearest neighbour through the exact transform. Prints two markdown tables: all pairs, beside no
registration, and the pairs that every method of `--beside` has. `--write-card` puts the means over all pairs into
the card of the model file.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acdc import DIRECTIONS, Frame, Registered, make_row, read_frames
from tables import LABELS, Row, append_row, common_pairs, markdown_table, read_rows

from dlir.io.reading import Volume
from dlir.model.catalogue import resolve_model
from dlir.model.file import load_model, save_model
from dlir.registration.oneshot import Registration
from dlir.transforms.resample import resample

PATIENTS = [f"{number:03d}" for number in range(81, 101)]


def register(registration: Registration, fixed: Frame, moving: Frame) -> Registered:
    """One registration, the moving label carried over to the fixed grid."""
    volumes = [Volume(frame.intensity, frame.grid, role) for frame, role in ((fixed, "fixed"), (moving, "moving"))]
    start = time.perf_counter()
    result = registration(volumes[0], volumes[1])
    seconds = time.perf_counter() - start
    label = resample(moving.label, moving.grid, result.transform, fixed.grid, mode="nearest")
    return Registered(label.astype(np.uint8), result.jacobian, seconds)


def held_out_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over all pairs, for a model's card."""
    return {
        "data": f"ACDC patients {rows[0].patient}-{rows[-1].patient}, ED and ES both ways, {len(rows)} pairs",
        **{
            f"dice_{name}": round(statistics.fmean(row.labels[name].dice for row in rows), 3)
            for name in LABELS.values()
        },
        "folding_percent": round(statistics.fmean(row.folding_percent for row in rows), 4),
        "jacobian_sd": round(statistics.fmean(row.jacobian_sd for row in rows), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds patient001, patient002, …")
    parser.add_argument("--model", default="cardiac-cine", help="name or file")
    parser.add_argument("--patients", nargs="+", default=PATIENTS, help="numbers of three digits")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="rows of other methods")
    parser.add_argument("--output", type=Path, required=True, help="JSON-lines file, written anew")
    parser.add_argument("--write-card", action="store_true", help="keep the means in the model file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = resolve_model(options.model)
    model, header = load_model(path)
    registration = Registration(model, torch.device("cpu"))
    options.output.unlink(missing_ok=True)
    for patient in options.patients:
        frames = read_frames(options.data, patient)
        for direction in DIRECTIONS:
            moving, fixed = (frames[phase] for phase in direction.split("-to-"))
            outcome = register(registration, fixed, moving)
            append_row(options.output, make_row(f"DLIR {header.card['name']}", patient, direction, 0, fixed, outcome))
    if options.write_card:
        save_model(path, model, header.card | {"held_out": held_out_figures(read_rows(options.output))})
    own, others = read_rows(options.output), [row for path in options.beside for row in read_rows(path)]
    everywhere = [row for row in others if row.method == "identity"]
    print(markdown_table(common_pairs(everywhere + own)))
    print()
    print(markdown_table(common_pairs(others + own)))


if __name__ == "__main__":
    main()
