"""`dlir train`: a model from a folder of images, without labels."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlir.cli.common import Device, DeviceOption, say
from dlir.errors import ConfigError, OptionError, OutputError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from dlir.training.config import TrainingConfig

TrainingProgress = Callable[[str, int, int, dict[str, float]], None]

# What a run folder holds, see Trainer.
_RUN_FILES = ("last.pt", "history.json", "model.safetensors")


def train(
    data: Annotated[Path, typer.Option(help="Folder below which the configuration's files lie.")],
    output: Annotated[Path, typer.Option(help="Run folder; made where missing.")],
    config: Annotated[Path | None, typer.Option(help="Training configuration (YAML).")] = None,
    preset: Annotated[str | None, typer.Option(help="Name of a configuration that comes with DLIR.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder.")] = False,
    device: DeviceOption = Device.auto,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the configuration's.")] = None,
    max_iterations: Annotated[
        int | None, typer.Option(min=1, help="At most so many per stage: for a first try of data and configuration.")
    ] = None,
) -> None:
    """Train a model into a run folder: model.safetensors, history.json and last.pt, from which --resume continues.

    Needs the training packages: pip install 'dlir[train]'.
    """
    _check_folder(output, resume)
    configuration = _configuration(config, preset, seed, max_iterations)
    try:
        model = _train(configuration, data, output, resume, device.value)
    except KeyboardInterrupt:
        left = "continue the run with --resume" if _has_checkpoint(output) else "there was no checkpoint yet"
        raise KeyboardInterrupt(left) from None
    print(f"model  {model}")


def _train(configuration: TrainingConfig, data: Path, output: Path, resume: bool, device_name: str) -> Path:
    """Train to the end; returns the model file."""
    with _training_packages():
        from dlir.training.trainer import Trainer
    from dlir.registration.devices import choose_device

    device = choose_device(device_name)
    say(f"reading the images below {data}")
    trainer = Trainer(configuration, data, output, device)
    if resume:
        trainer.resume()
    with _display() as progress:
        return trainer.run(progress)


# -- options ------------------------------------------------------------------------------------------


def _has_checkpoint(output: Path) -> bool:
    return (output / _RUN_FILES[0]).is_file()


def _check_folder(output: Path, resume: bool) -> None:
    """Raises OutputError for a folder that holds a run, or, where one is to be continued, that holds none."""
    if resume and not _has_checkpoint(output):
        raise OutputError(f"'{output}' holds no checkpoint ({_RUN_FILES[0]}) to continue from; leave out --resume")
    if not resume and any((output / name).exists() for name in _RUN_FILES):
        raise OutputError(f"'{output}' already holds a run; continue it with --resume or choose another folder")


def _configuration(
    config: Path | None, preset: str | None, seed: int | None, max_iterations: int | None
) -> TrainingConfig:
    """The configuration named by the options, changed as they say. Raises OptionError or ConfigError."""
    if (config is None) == (preset is None):
        raise OptionError(f"give either --config or --preset ({', '.join(_presets()) or 'none comes with this DLIR'})")
    with _training_packages():
        from dlir.training.config import load_config
    loaded = load_config(config if config is not None else _preset_file(str(preset)))
    changes: dict[str, object] = {} if seed is None else {"seed": seed}
    if max_iterations is not None:
        capped = [
            stage.model_copy(update={"iterations": min(stage.iterations, max_iterations)})
            for stage in (*loaded.training, *([loaded.fine_tuning] if loaded.fine_tuning else []))
        ]
        stages = len(loaded.training)
        changes |= {"training": capped[:stages], "fine_tuning": capped[stages] if loaded.fine_tuning else None}
    return loaded.model_copy(update=changes)


def _presets() -> dict[str, Path]:
    from dlir.model.catalogue import resource_folder

    return {path.stem: path for path in sorted(resource_folder("Presets").glob("*.yaml"))}


def _preset_file(name: str) -> Path:
    presets = _presets()
    if name not in presets:
        known = ", ".join(presets) or "none comes with this DLIR"
        raise ConfigError(f"there is no preset '{name}'; choose one of: {known}; or give --config FILE")
    return presets[name]


@contextmanager
def _training_packages() -> Iterator[None]:
    """Turns the import error of a package that only training needs into advice. Raises ConfigError."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "dlir").partition(".")[0]
        if package == "dlir":
            raise
        raise ConfigError(f"training needs '{package}', which is not installed: pip install 'dlir[train]'") from None


# -- what the user sees -------------------------------------------------------------------------------


@contextmanager
def _display() -> Iterator[TrainingProgress]:
    """The trainer's progress: a bar with the time left on a terminal, else a line per validation for the log."""
    if not sys.stderr.isatty():
        yield _log
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    figures = TextColumn("{task.fields[similarity]}{task.fields[validation]}")
    with Bar(*columns, figures, console=Console(stderr=True), redirect_stdout=False) as bar:
        tasks: dict[str, TaskID] = {}

        def show(phase: str, done: int, total: int, values: dict[str, float]) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=total, completed=done, similarity="", validation="")
            bar.update(tasks[phase], completed=done, similarity=f"similarity {values['similarity']:.4f}")
            if "validation_similarity" in values:
                bar.update(tasks[phase], validation=f", validation {values['validation_similarity']:.4f}")

        yield show


def _log(phase: str, done: int, total: int, values: dict[str, float]) -> None:
    if "validation_similarity" in values or done == total:
        figures = "  ".join(f"{name} {value:.5f}" for name, value in values.items())
        say(f"{time.strftime('%H:%M:%S')}  {phase}  {done}/{total}  {figures}")
