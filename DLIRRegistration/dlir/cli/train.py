"""`dlir train`: a model from a folder of images, without labels."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlir.cli import completion
from dlir.cli.common import DeviceOption, ThreadsOption, is_quiet, now_and_then, say
from dlir.errors import ConfigError, OptionError, how_to_install
from dlir.registration.choices import Device
from dlir.registration.threads import use_threads

if TYPE_CHECKING:
    from rich.progress import TaskID

    from dlir.training.config import TrainingConfig

TrainingProgress = Callable[[str, int, int, dict[str, float]], None]

ConfigOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Training configuration (YAML).")]
PresetOption = Annotated[
    str | None, typer.Option(metavar="NAME", autocompletion=completion.presets, help="One of `dlir presets`.")
]
InitOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        autocompletion=completion.models,
        help="Continue this model; --config then says what is changed.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER|TABLE", help="Folder below which the configuration's files lie, or a manifest (CSV, TSV, JSON)."
    ),
]


def train(
    data: DataOption = None,
    output: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Run folder; made where missing.")] = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    init: InitOption = None,
    freeze: Annotated[
        str | None, typer.Option(metavar="1,2,…", help="With --init: stages that stay as they are, the first being 1.")
    ] = None,
    add_stages: Annotated[
        int | None, typer.Option(min=0, help="With --init: so many stages more, which begin as copies of the last.")
    ] = None,
    init_config: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="Print a configuration planned from these images, for --config; train nothing."
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue the run in this folder, with its own options.")
    ] = None,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = None,
    devices: Annotated[int, typer.Option(min=1, help="Processes to train with, each on a device of its own.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes that prepare pairs ahead.")] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for prepared images, which runs may share; else in the run folder."
        ),
    ] = None,
    data_description: Annotated[
        str | None,
        typer.Option(
            help="What the images are, for the model's card, which also counts them; instead of the configuration's."
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(help="Terms under which the model may be used, which follow from the data's; else not stated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the configuration's.")] = None,
    max_iterations: Annotated[
        int | None, typer.Option(min=1, help="At most so many per stage: for a first try of data and configuration.")
    ] = None,
) -> Path:
    """Train a model into a run folder; --resume goes on with it.

    A new run needs --data, --output and --config, --preset or --init. The run folder holds model.safetensors and
    history.json, best.safetensors, TensorBoard's files and, at the end, curves.png. Needs the training packages:
    pip install 'dlir[train]', or, for a wheel, 'FILE.whl[train]'.
    """
    use_threads(threads, processes=devices)
    if init_config is not None:
        print_plan(init_config)
        raise typer.Exit
    with training_packages():
        from dlir.training.run import is_first_process, train
        from dlir.training.run_folder import RunFolder, RunOptions

    first = is_first_process()
    if resume is not None:
        given = {
            "--data": data,
            "--init": init,
            "--freeze": freeze,
            "--add-stages": add_stages,
            "--output": output,
            "--seed": seed,
            "--max-iterations": max_iterations,
            "--cache": cache,
            "--licence": licence,
            "--data-description": data_description,
        }
        if wrong := [name for name, value in given.items() if value is not None]:
            raise OptionError(f"--resume takes everything from the run folder; leave out {', '.join(wrong)}")
        folder = RunFolder(resume)
        options = folder.resume(hold=first)
        if config is not None or preset is not None:
            folder.check_same(read_configuration(config=config, preset=preset))
    else:
        if data is None or output is None:
            raise OptionError("give --data and --output for a new run, or --resume RUN to continue one")
        folder = RunFolder(output)
        configuration = read_configuration(
            config=config,
            preset=preset,
            init=init,
            freeze=stages_of(freeze),
            add_stages=add_stages,
            seed=seed,
            max_iterations=max_iterations,
            data=data_description,
            licence=licence,
        )
        _say_licence(configuration)
        options = RunOptions(configuration, data, cache or output / "cache")
        if first:
            folder.begin(options)
    if first:
        say(f"reading the images in {options.data}")
    try:
        with _display() as progress:
            model = train(folder, options, device.value, devices, workers, _tell, progress, say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"continue the run with --resume {folder.path}") from None
    if first:
        print(f"model  {model}")
    return model


# -- options ------------------------------------------------------------------------------------------


def read_configuration(**said: Any) -> TrainingConfig:
    """The configuration named by options. said: as `Requested`. Raises OptionError, ConfigError or ModelError."""
    with training_packages():
        from dlir.training.requested import Requested
    return Requested(**said).configuration()


def print_plan(data: Path, pairs: str | None = None) -> None:
    """The planned configuration on stdout, what was found and guessed on stderr. Raises ConfigError, ModelError."""
    with training_packages():
        from dlir.training.plan import plan_text
    text, found = plan_text(data, lambda what, why: say(f"left out: {why}"), pairs)  # type: ignore[arg-type]
    kind = {"intra": "within a person", "inter": "between persons"}.get(found.pairs, "of the manifest")
    say(f"{found.images} images of {found.subjects} subjects; pairs {kind}, because {found.why}")
    if pairs is None and found.pairs != "listed":
        say("if that is wrong: dlir presets plan --pairs intra or inter, or a manifest that names each image's subject")
    print(text, end="")


def stages_of(text: str | None) -> tuple[int, ...] | None:
    """Numbers of stages, as "1,2" gives them. Raises OptionError."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--freeze takes numbers of stages as 1,2; '{text}' is none") from None


def _say_licence(config: TrainingConfig) -> None:
    """Nobody can guess under which terms a model may be used, so the user hears where the card will not say it."""
    if config.card.licence is None:
        say("the model's card will say of its licence: not stated; --licence gives one, which follows from the data's")


@contextmanager
def training_packages() -> Iterator[None]:
    """Turns the import error of a package that only training needs into advice. Raises ConfigError."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "dlir").partition(".")[0]
        if package == "dlir":
            raise
        raise ConfigError(f"training needs '{package}', which is not installed: {how_to_install('train')}") from None


# -- what the user sees -------------------------------------------------------------------------------


@contextmanager
def _display() -> Iterator[TrainingProgress]:
    """The trainer's progress: a bar with the time left on a terminal, else a line per validation for the log, and one
    now and then between them.
    """
    if is_quiet() or not sys.stderr.isatty():
        yield _logging()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    figures = TextColumn("{task.fields[similarity]}{task.fields[validation]}")
    left = (TextColumn("left"), TimeRemainingColumn())
    with Bar(*columns, *left, figures, console=Console(stderr=True), redirect_stdout=False) as bar:
        tasks: dict[str, TaskID] = {}

        def show(phase: str, done: int, total: int, values: dict[str, float]) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=total, completed=done, similarity="", validation="")
            bar.update(tasks[phase], completed=done)
            if "similarity" in values:  # which the learning of the domain has not
                bar.update(tasks[phase], similarity=f"similarity {values['similarity']:.4f}")
            if "validation_similarity" in values:
                bar.update(tasks[phase], validation=f", validation {values['validation_similarity']:.4f}")

        yield show


def _tell(what: str, why: str) -> None:
    say(f"left out: {why}")


def _logging() -> TrainingProgress:
    is_time = now_and_then()

    def log(phase: str, done: int, total: int, values: dict[str, float]) -> None:
        now = time.strftime("%H:%M:%S")
        if not values and done == 0:
            say(f"{now}  {phase}: learning from its own pairs what the model is for")
        if "seconds" in values:
            shown = {name: value for name, value in values.items() if name not in ("phase", "iteration")}
            say(f"{now}  {phase}  {done}/{total}  " + "  ".join(f"{n} {value:.5g}" for n, value in shown.items()))
        elif is_time():
            say(f"{now}  {phase}  {done}/{total}")

    return log
