"""itk-elastix on the images of a folder, with the parameters in its job.json. Needs itk-elastix alone."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import itk


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    # The environment variable alone is not read by all filters; elastix crashes where its own interface sets threads.
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(job["threads"])
    fixed, moving = (itk.imread(str(folder / f"{name}.nrrd"), itk.F) for name in ("fixed", "moving"))
    parameters = itk.ParameterObject.New()
    for values in job["settings"]["maps"]:
        parameters.AddParameterMap(values)
    started = time.perf_counter()
    _, found = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=False)
    seconds = time.perf_counter() - started
    maps = [found.GetParameterMap(i) for i in range(found.GetNumberOfParameterMaps())]
    told = {
        "seconds": seconds,
        "version": version("itk-elastix"),
        "maps": [{key: list(values) for key, values in values.items()} for values in maps],
    }
    (folder / "found.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
