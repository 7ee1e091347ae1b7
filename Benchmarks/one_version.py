"""One side of versions.py, in a process of its own: `python one_version.py CHECKOUT JOB THREADS`.

Does the job once to warm up (the large pair not), then once for each line on stdin, and answers with a line of JSON:
seconds of CPU (user and system) and of the clock, and peak bytes of the process. Code and data of CHECKOUT alone.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path


def registration_alone(checkout: Path) -> Callable[[], object]:
    """The sample cine pair, from arrays in memory to arrays."""
    import torch

    from dlir.io import read_image
    from dlir.model.file import load_model
    from dlir.registration.oneshot import Registration

    data = checkout / "Resources" / "SampleData"
    fixed, moving = (read_image(str(data / f"{name}.nrrd"), name) for name in ("fixed_ed", "moving_es"))
    model = load_model(checkout / "Resources" / "Models" / "cardiac-cine.safetensors")[0]
    registration = Registration(model, torch.device("cpu"))
    return lambda: registration(fixed, moving)


def whole_command(checkout: Path) -> Callable[[], object]:
    """The sample cine pair through `dlir register`, called in this process: files read, labels propagated and scored,
    report and all files written.
    """
    from dlir.cli import main

    data = checkout / "Resources" / "SampleData"
    given = {
        "fixed": "fixed_ed",
        "moving": "moving_es",
        "fixed-label": "fixed_ed_label",
        "moving-label": "moving_es_label",
    }
    options = [text for name, file in given.items() for text in (f"--{name}", str(data / f"{file}.nrrd"))]
    model = checkout / "Resources" / "Models" / "cardiac-cine.safetensors"

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sys.argv = ["dlir", "register", *options, "--model", str(model), "--device", "cpu", "--output", folder]
            try:
                main()
            except SystemExit as end:
                if end.code:
                    raise

    return run


def large_pair(checkout: Path) -> Callable[[], object]:
    """scaling.py's 512x512x200 phantom and untrained chest design."""
    # What makes tables is not needed, and would take memory of its own.
    tables = types.ModuleType("study")
    for name in ("keep_tables", "machine", "peak_bytes"):
        setattr(tables, name, None)
    sys.modules["study"] = tables
    import torch
    from scaling import chest_model, phantom

    from dlir.registration.oneshot import Registration

    fixed, moving = phantom(200, 0.0), phantom(200, 0.02)
    registration = Registration(chest_model(), torch.device("cpu"))
    return lambda: registration(fixed, moving)


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    checkout, job, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    sys.path[0] = str(checkout / "Benchmarks")
    sys.path.insert(0, str(checkout / "DLIRRegistration"))
    import torch

    torch.set_num_threads(threads)
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        run = {"registration": registration_alone, "command": whole_command, "large": large_pair}[job](checkout)
        if job != "large":
            run()
        for _ in sys.stdin:
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak_bytes()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
