"""The real worker process with jobs that only pretend, so that it starts at once and does as a test wants.

What the job does, the request says in place of its model. Run as Python would be: `fake_worker.py -m dlir.worker ...`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlir.errors import ImageError
from dlir.registration.judging.verdict import Verdict
from dlir.registration.progress import Curve, Notify, Offer, Progress
from dlir.registration.request import ArrayFile, Outputs, RegistrationRequest
from dlir.worker.protocol import Register

# Run first, this makes it the real worker, on a computer that has no torch.
WITHOUT_TORCH = """
import fake_worker
import dlir.worker.server
sys.modules["torch"] = None
fake_worker.main = dlir.worker.server.main
"""


IMAGE = ArrayFile("image.npy", {"shape": [2, 2, 2]}, "image")


def asking(name: str, folder: Path | str, what: str, **more: Any) -> Register:
    """A request that the fake answers."""
    return Register(name, RegistrationRequest(IMAGE, IMAGE, Outputs(str(folder), "arrays"), what, **more))


def work(
    asked: RegistrationRequest,
    session: Any,
    progress: Progress,
    notify: Notify,
    offer: Offer,
    stop: Callable[[], bool],
    curve: Curve,
) -> types.SimpleNamespace:
    progress("reading", 0.0)
    what, _, value = os.path.basename(asked.model).partition(" ")
    if what == "print":
        print("from Python")
        os.write(1, b"from a library\n")
        subprocess.run(["echo", "from a child"], check=True)
        os.system("read line && echo the child ate $line")
    elif what == "sleep":
        time.sleep(float(value))
    elif what == "spawn":  # a child that ignores polite signals, and whose number the test is told
        child = subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; sleep 600"])
        notify(str(child.pid))
        time.sleep(600)
    elif what == "refine":  # until it is stopped
        progress("refining, affine", 0.2)
        while not stop():
            curve("stage 1 of 2", 0.123456)
            progress("refining, stage 1 of 2, similarity 0.1235", 0.3)
            time.sleep(0.01)
    elif what == "offer":
        offer(Verdict("check", value, {"similarity_after": 0.9, "covered": None}))
    elif what == "refuse":
        raise ImageError(value)
    elif what == "fault":
        raise RuntimeError(value)
    elif what == "memory":
        raise MemoryError
    elif what == "nan":
        return types.SimpleNamespace(files={}, report={"value": float("nan")})
    elif what == "die":
        os._exit(int(value))
    progress("writing", 1.0)
    result = Path(asked.outputs.folder, "result.npy")
    result.write_bytes(b"result")
    return types.SimpleNamespace(files={"warped": str(result)}, report={"model": asked.model})


def script(folder: Path, *, launcher: bool = False, before: str = "") -> str:
    """An executable to be used in place of Python. launcher: it stays, as Slicer's, the parent of the real process.

    before: Python statements to run first.
    """
    runner = folder / f"runner{len(list(folder.iterdir()))}.py"
    runner.write_text(
        f"import sys\n{textwrap.dedent(before)}\nsys.argv = sys.argv[2:]\nfrom fake_worker import main\nmain()\n"
    )
    path = folder / f"python{len(list(folder.iterdir()))}"
    command = f'"{sys.executable}" "{runner}" "$@"'
    path.write_text(f"#!/bin/sh\n{command}\nexit $?\n" if launcher else f"#!/bin/sh\nexec {command}\n")
    path.chmod(0o755)
    return str(path)


ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(
        [str(Path(__file__).resolve().parents[2] / "DLIRRegistration"), str(Path(__file__).parent)]
    )
}


def main() -> None:
    for name, content in (
        ("dlir.registration.results.report", {"versions": lambda: {"dlir": "fake"}}),
        ("dlir.registration.session", {"Session": object}),
        ("dlir.registration.pipeline", {"run": work}),
    ):
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
    from dlir.worker.server import main as serve

    serve()
