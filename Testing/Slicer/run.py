"""Plays scenarios in a real Slicer, one after the other, each in a Slicer of its own; a line tells of each.

    python Testing/Slicer/run.py --slicer /path/to/Slicer [--limit 600] [--logs FOLDER] [first_opening views ...]

The Slicer needs what registration needs (DLIRRegistration/Resources/requirements.txt), and a display. Exit status 1
where a scenario fails, which then names the step; what Slicer printed is in FOLDER.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE.parents[1] / "DLIRRegistration"
SCENARIOS = ("first_opening", "scene_life", "deleted_nodes", "closing", "reloading", "sequence", "views")
OPTIONS = ("--testing", "--disable-settings", "--no-splash", "--ignore-slicerrc")
# On Linux, Slicer lowers the priority of its window's thread, and so of all it starts, where it means the thread of its
# background tasks: beside anything else that computes, a scenario would get no time.
ENVIRONMENT = {"SLICER_BACKGROUND_THREAD_PRIORITY": "0"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slicer", type=Path, required=True, help="the application")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that one scenario may take")
    parser.add_argument("--logs", type=Path, help="folder for what Slicer prints (default: a temporary one)")
    parser.add_argument("scenarios", nargs="*", default=SCENARIOS, metavar="scenario", help="by default all")
    options = parser.parse_args()
    slicer, logs = options.slicer.absolute(), options.logs or Path(tempfile.mkdtemp(prefix="dlir-scenarios-"))
    if not slicer.is_file():
        parser.error(f"there is no Slicer '{slicer}'; give the path of the application")
    unknown = [name for name in options.scenarios if not (HERE / f"{name}.py").is_file()]
    if unknown:
        parser.error(f"there is no scenario '{unknown[0]}'; choose from {', '.join(SCENARIOS)}")
    logs.mkdir(parents=True, exist_ok=True)
    failed = [name for name in options.scenarios if not _played(slicer, name, logs / f"{name}.log", options.limit)]
    if failed:
        print(f"{len(failed)} of {len(options.scenarios)} scenarios failed: {', '.join(failed)}; see {logs}")
    else:
        print(f"All scenarios passed: {', '.join(options.scenarios)}")
    return 1 if failed else 0


def _played(slicer: Path, name: str, log: Path, limit: float) -> bool:
    """Whether a scenario passed; prints its line."""
    command = [str(slicer), *OPTIONS, "--additional-module-path", str(MODULES)]
    command += ["--python-script", str(HERE / f"{name}.py")]
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **ENVIRONMENT},
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
    reason = _reason(log.read_text(encoding="utf-8", errors="replace").splitlines(), status, limit)
    seconds = time.monotonic() - began
    print(
        f"{'FAILED' if reason else 'passed'}  {name:<16}{seconds:>5.0f} s{f'  {reason}' if reason else ''}", flush=True
    )
    return reason is None


def _reason(lines: list[str], status: int | None, limit: float) -> str | None:
    """Why a scenario did not pass; None where it did."""
    told = next((line.removeprefix("failed: ") for line in lines if line.startswith("failed: ")), None)
    done = [line for line in lines if line.startswith("step: ")]
    after = f"after '{done[-1].split(':')[1].strip()}'" if done else "before the first step"
    if told is not None:
        return told
    if status is None:
        return f"not over after {limit:.0f} s, {after}"
    if status != 0 or "passed" not in lines:
        return f"Slicer ended with status {status} {after}"
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends Slicer, if it is still there, and what it has started."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
