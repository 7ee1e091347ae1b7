"""What a run leaves on disk, and who may write there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from filelock import FileLock, Timeout

from dlir.errors import ConfigError, OutputError
from dlir.io.writing import settle, writable, write_bytes, write_json
from dlir.model.catalogue import resolve_model
from dlir.training.config import TrainingConfig
from dlir.training.config_file import differences

OPTIONS = "run.json"
CHECKPOINT = "last.pt"
HISTORY = "history.json"
MODEL = "model.safetensors"
BEST = "best.safetensors"
LEFT_OUT = "left_out.json"
CURVES = "curves.png"
# The model that a run continues, as it was when the run began.
PARENT = "parent.safetensors"
BOARD = "tensorboard"

_RUN_FILES = (OPTIONS, CHECKPOINT, HISTORY, MODEL)
# What a run writes too, and what without these may be anybody's.
_OTHERS = (BEST, CURVES, BOARD, PARENT)


@dataclass(frozen=True)
class RunOptions:
    """All that a run needs to begin, and to be continued from its folder alone.

    data: folder or manifest. cache: folder of prepared images.
    """

    config: TrainingConfig
    data: Path
    cache: Path


class RunFolder:
    """The folder of one run. Only one process may hold it at a time; the lock ends with the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # It ends with the process that took it, though the processes that prepare batches outlive that by some seconds.
        self._lock = FileLock(self.file(".lock"))
        self._begun = False

    def file(self, name: str) -> Path:
        """Where a file of the run lies."""
        return self.path / name

    @property
    def holds_run(self) -> bool:
        """Whether a run was begun here."""
        return any(self.file(name).exists() for name in _RUN_FILES)

    def begin(self, options: RunOptions) -> None:
        """Make the folder and keep the options in it. Raises OutputError for one that cannot be used."""
        if self.holds_run:
            raise OutputError(
                f"'{self.path}' already holds a run{self._how_it_differs(options.config)}; continue it with --resume "
                f"{self.path}, or choose another folder"
            )
        for path in map(self.file, _OTHERS):
            if path.exists():
                raise OutputError(f"'{path}' is there already, and of no run; move it away or choose another folder")
        writable(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder '{self.path}': {error.strerror}; choose another") from None
        self._hold()
        if (init := options.config.init) is not None:
            write_bytes(self.file(PARENT), resolve_model(init.model).read_bytes())
        values = options.config.model_dump(mode="json")
        # Paths as they will be found from anywhere.
        write_json(
            self.file(OPTIONS),
            {"data": str(options.data.resolve()), "cache": str(options.cache.resolve()), "config": values},
        )
        self._begun = True

    def abandon(self) -> None:
        """Forget a run that was begun here and could not be set up, so that the folder can be used again."""
        if self._begun:
            for name in (OPTIONS, LEFT_OUT, PARENT):
                self.file(name).unlink(missing_ok=True)

    def keep_left_out(self, left_out: list[dict[str, str]]) -> None:
        """What of the data the run does without, and why: instead of what it was when it began. Raises OutputError."""
        if left_out:
            write_json(self.file(LEFT_OUT), left_out)
        else:
            self.file(LEFT_OUT).unlink(missing_ok=True)

    def resume(self, *, hold: bool = True) -> RunOptions:
        """The options of the run in the folder. Raises OutputError or ConfigError where there is none to continue.

        hold: whether this process is the one that writes.
        """
        path = self.file(OPTIONS)
        if not path.is_file():
            raise OutputError(f"'{self.path}' holds no run to continue ({OPTIONS} is missing); check the path")
        try:
            options = self._options()
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(f"'{path}' is damaged; start the run afresh in another folder") from None
        if not hold:
            return options
        self._hold()
        settle(self.path, alone=True)
        return options

    def _options(self) -> RunOptions:
        values = json.loads(self.file(OPTIONS).read_bytes())
        return RunOptions(TrainingConfig.model_validate(values["config"]), Path(values["data"]), Path(values["cache"]))

    def check_same(self, config: TrainingConfig) -> None:
        """Raises OutputError where the run in the folder has another configuration."""
        if found := self._how_it_differs(config):
            raise OutputError(f"'{self.path}' holds a run{found}; leave out --config and --preset, or begin a new run")

    def _how_it_differs(self, config: TrainingConfig) -> str:
        try:
            found = differences(self._options().config, config)
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return f" with another configuration ({listed(found)})" if found else ""

    def _hold(self) -> None:
        """Raises OutputError where another process trains into the folder."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise OutputError(f"another process is training into '{self.path}'; wait for it or end it") from None
        except OSError as error:
            raise OutputError(f"cannot lock the folder '{self.path}': {error.strerror}; choose another") from None

    # -- the checkpoint --------------------------------------------------------------------------

    def write_tensors(self, name: str, content: Any) -> Path:
        """Keep tensors in the folder, whole or not at all, and return where. Raises OutputError."""
        # By way of memory: torch does not say why it could not write a file.
        data = BytesIO()
        torch.save(content, data)
        write_bytes(self.file(name), data.getvalue())
        return self.file(name)

    def read_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """None where the run was ended before its first one. Raises ConfigError for a damaged one."""
        path = self.file(CHECKPOINT)
        if not path.exists():
            return None
        try:
            content: dict[str, Any] = torch.load(BytesIO(path.read_bytes()), map_location=device, weights_only=True)
            if not {"config", "data", "model", "optimizer", "state", "best"} <= content.keys():
                raise KeyError
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, AttributeError, UnpicklingError):
            raise ConfigError(f"checkpoint '{path}' is damaged or no checkpoint; start the run afresh") from None
        return content


def listed(found: list[str], most: int = 3) -> str:
    """Some differences, and how many more there are."""
    return "; ".join(found[:most]) + (f"; and {len(found) - most} more" if len(found) > most else "")
