"""Training in the background: `dlir train` in a process of its own, and its learning curve read from the run folder."""

from __future__ import annotations

import atexit
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dlir.errors import OutputError
from DLIRRegistrationLib.worker.process import ChildProcess

State = Literal["idle", "running", "stopping", "finished", "stopped", "failed"]

# What `dlir train` keeps in the run folder: what it was asked for, its learning curve, and the model.
OPTIONS, HISTORY, MODEL, CHECKPOINT = "run.json", "history.json", "model.safetensors", "last.pt"

# Seconds for the process to write its checkpoint after it has been asked to stop; and at most when the program ends.
_GRACE = 60.0
_GRACE_AT_EXIT = 5.0
_WAIT_STEP = 0.02


class TrainingRun:
    """One run folder, and the process that trains into it, if any. `poll` often, by a timer; no call takes long.

        run = TrainingRun(folder)
        run.start(data, "cardiac-cine")
        ...  # poll() by a timer; draw run.history
        run.model  # once run.state is "finished"

    output: the run folder. It may hold a run already, which can be continued. What the process prints goes into a
    file beside it, `OUTPUT.log`. python, environment: as for `WorkerClient`.
    The process ends with this one; whatever ends it, the run can be continued from its last checkpoint.
    """

    def __init__(self, output: Path, python: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.output = Path(output).absolute()  # the process has another current folder
        self.state: State = "idle"
        self.history: list[dict[str, Any]] = []
        self.error: str | None = None
        self._python, self._environment = python, dict(environment or {})
        self._process: ChildProcess | None = None
        self._deadline = 0.0
        self._read_at: tuple[int, int] | None = None
        self._read_history()

    @property
    def log(self) -> Path:
        """What the process prints."""
        return self.output.with_name(f"{self.output.name}.log")

    @property
    def active(self) -> bool:
        """Whether the process is there."""
        return self._process is not None

    @property
    def resumable(self) -> bool:
        """Whether there is something to continue."""
        return not self.active and self.state != "finished" and (self.output / OPTIONS).is_file()

    @property
    def checkpointed(self) -> bool:
        """Whether a checkpoint was written, which may come before the first row of the history."""
        return (self.output / CHECKPOINT).is_file()

    @property
    def model(self) -> Path | None:
        """The model file, as good as it has become; None while it is being trained and where there is none."""
        path = self.output / MODEL
        return path if not self.active and path.is_file() else None

    # -- what the user does ----------------------------------------------------------------------

    def start(self, data: Path, configuration: str | Path, device: str = "auto") -> None:
        """Begin a run in the folder `output`, which holds none.

        data: folder of images. configuration: the name of a preset, or a YAML file. device: as for `dlir train`.
        Returns at once. Raises WorkerError where the process cannot be started and OutputError where the log cannot
        be written; whatever else is wrong, such as the data, `poll` will find in `error`.
        """
        named = isinstance(configuration, str) and not configuration.endswith((".yaml", ".yml"))
        chosen = ["--preset", str(configuration)] if named else ["--config", str(Path(configuration).absolute())]
        self._launch(["--data", str(Path(data).absolute()), "--output", str(self.output), *chosen, "--device", device])

    def resume(self, device: str = "auto") -> None:
        """Continue the run in the folder `output` from its last checkpoint. Returns, and raises, as `start`."""
        self._launch(["--resume", str(self.output), "--device", device])

    def stop(self) -> None:
        """Ask the process to write a checkpoint and end; `poll` kills it if it has not in a minute."""
        if self._process is not None and self.state == "running":
            self._process.close_stdin()  # which `attended` takes for an interrupt
            self.state, self._deadline = "stopping", time.monotonic() + _GRACE

    def close(self) -> None:
        """Stop, and wait for the end, a few seconds at most. Does nothing where nothing runs."""
        self.stop()
        deadline = time.monotonic() + _GRACE_AT_EXIT
        while self.poll() == "stopping":
            if time.monotonic() > deadline:
                self._deadline = 0.0
            time.sleep(_WAIT_STEP)

    # -- what comes of it ------------------------------------------------------------------------

    def poll(self) -> State:
        """Read what is new and see whether the process has ended."""
        self._read_history()
        process = self._process
        if process is None:
            return self.state
        overdue = self.state == "stopping" and time.monotonic() > self._deadline
        if overdue:
            process.kill()
        if process.all_ended or (overdue and process.ended):
            self._read_history()
            self._end(process)
        return self.state

    def _launch(self, options: list[str]) -> None:
        if self._process is not None:
            raise ValueError(f"a training into '{self.output}' is under way")
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the folder '{self.output.parent}': {error.strerror}; choose another place"
            ) from error
        command = ["DLIRRegistrationLib.worker.attended", "train", *options]
        self._process = ChildProcess(command, self.log, self._python, self._environment, answers=False)
        self.state, self.error = "running", None
        atexit.register(self.close)

    def _end(self, process: ChildProcess) -> None:
        atexit.unregister(self.close)
        process.close_stdin()
        self._process = None
        if process.exit_code == 0:
            self.state = "finished"
        elif self.state == "stopping":
            self.state = "stopped"
        else:
            self.state, self.error = "failed", _reason(process)

    def _read_history(self) -> None:
        """The rows of the history file, if it has changed. One that cannot be read leaves them as they were."""
        path = self.output / HISTORY
        try:
            found = path.stat()
            state = found.st_mtime_ns, found.st_size
            if state == self._read_at:
                return
            rows = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
            self.history, self._read_at = rows, state


def _reason(process: ChildProcess) -> str:
    """Why a process failed: the error line of the command, or else its last line and how it ended."""
    lines = process.last_words().splitlines() or ["it said nothing"]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"{lines[-1].strip()} ({process.ending})"
