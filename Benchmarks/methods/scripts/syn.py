"""ANTs' SyN with its affine start on the images of a folder. Needs antspyx alone."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import ants
import numpy as np


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    fixed, moving = (ants.image_read(str(folder / f"{name}.nrrd"), pixeltype="float") for name in ("fixed", "moving"))
    started = time.perf_counter()
    found = ants.registration(fixed, moving, **job["settings"], random_seed=1, outprefix=str(folder / "syn"))
    seconds = time.perf_counter() - started
    field, affine = found["fwdtransforms"]  # the second is applied to points after the first
    np.save(folder / "field.npy", ants.image_read(field).numpy().transpose(2, 1, 0, 3))
    after = ants.read_transform(affine)
    matrix, center = np.eye(4), np.array(after.fixed_parameters)
    matrix[:3, :3] = np.reshape(after.parameters[:9], (3, 3))
    matrix[:3, 3] = after.parameters[9:] + center - matrix[:3, :3] @ center
    told = {
        "seconds": seconds,
        "version": version("antspyx"),
        "field": "field.npy",
        "matrix": matrix.tolist(),
    }
    (folder / "found.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
