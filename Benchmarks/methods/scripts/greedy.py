"""Greedy on the images of a folder: affine, then deformable, by one metric. Needs picsl-greedy and SimpleITK alone."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from picsl_greedy import Greedy3D


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    settings, threads = job["settings"], f"-threads {job['threads']}"
    images = {name: sitk.ReadImage(str(folder / f"{name}.nrrd"), sitk.sitkFloat32) for name in ("fixed", "moving")}
    pair = f"-i fixed moving -m {settings['metric']}"
    greedy = Greedy3D()
    started = time.perf_counter()
    greedy.execute(
        f"-a {pair} -dof 12 -ia-identity -n {settings['affine_steps']} -o affine {threads}", **images, affine=None
    )
    greedy.execute(f"{pair} -it affine -n {settings['steps']} -o field {threads}", field=None)
    seconds = time.perf_counter() - started
    np.save(folder / "field.npy", sitk.GetArrayFromImage(greedy["field"]).astype(np.float32))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])  # its matrices are in RAS, its fields are not
    matrix = lps @ np.asarray(greedy["affine"], float) @ lps
    told = {
        "seconds": seconds,
        "version": version("picsl-greedy"),
        "field": "field.npy",
        "matrix": matrix.tolist(),
    }
    (folder / "found.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
