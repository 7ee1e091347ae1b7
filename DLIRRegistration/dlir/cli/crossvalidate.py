"""`dlir crossvalidate`: a model per fold, each tested on the subjects that it has not seen (§6, §8.1)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlir.cli.common import (
    DeviceOption,
    FullPathsOption,
    JsonOption,
    OverwriteOption,
    ThreadsOption,
    interrupt_says,
    is_quiet,
    say,
)
from dlir.cli.evaluate import (
    Baseline,
    DataKind,
    check_baselines,
    check_folder,
    check_packages,
    finish,
    make_methods,
    of_split,
    run,
)
from dlir.cli.train import ConfigOption, PresetOption, read_configuration
from dlir.errors import EvaluationError, OptionError, OutputError
from dlir.registration.choices import Device, Initialization
from dlir.registration.threads import use_threads

if TYPE_CHECKING:
    from dlir.evaluation.folds import Fold
    from dlir.evaluation.study import Evaluated
    from dlir.training.config import TrainingConfig

_CONFIG, _RUN, _DONE = "config.yaml", "run", "trained.json"


def crossvalidate(
    data: Annotated[
        Path, typer.Option(metavar="FOLDER|TABLE", help="Folder of the data set, or the table of a manifest.")
    ],
    dataset: Annotated[DataKind, typer.Option(help="How the data are laid out.")],
    output: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for models, records and report; what it holds is kept.")
    ],
    config: ConfigOption = None,
    preset: PresetOption = None,
    training_data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder below which the configuration's files lie.", show_default="--data"),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts into which the subjects are dealt.")] = 3,
    leave_one_out: Annotated[bool, typer.Option("--leave-one-out", help="A fold for every subject.")] = False,
    baseline: Annotated[
        list[Baseline] | None,
        typer.Option(metavar="elastix|elastix-bending|syn", help="Other methods, as for evaluate."),
    ] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Every model also up to each of its stages.")] = False,
    subjects: Annotated[
        list[str] | None, typer.Option(metavar="SUBJECT", help="Only these subjects; patterns. Repeatable.")
    ] = None,
    initialize: Annotated[
        Initialization, typer.Option(help="Where registrations start from.")
    ] = Initialization.centers,
    seed: Annotated[int, typer.Option(min=0, help="Of the dealing of subjects.")] = 0,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    full_paths: FullPathsOption = False,
    json: JsonOption = False,
) -> None:
    """Train a model per fold, evaluate it on unseen subjects.

    The subjects are dealt into folds; each fold's model is trained without its subjects and evaluated on them, and all
    folds are reported together.

    A manifest's rows with split test stay out of it; its other splits do not count, the folds do.

    The same command goes on where it was stopped, in the middle of a fold too. Writes the files of `dlir evaluate`,
    and the training runs in fold-1-of-3 and so on.
    """
    use_threads(threads)  # of the trainings too: they inherit it
    check_packages()
    check_folder(output, overwrite=overwrite)
    check_baselines(baseline or [])
    from dlir.data.layouts import open_data_set
    from dlir.data.pair import select
    from dlir.evaluation.folds import make_folds, with_others
    from dlir.evaluation.held_out import hold_out, reading_contents, same_subjects

    configuration = read_configuration(config=config, preset=preset)
    chosen = open_data_set(dataset.value, data)
    every = chosen.pairs()
    pairs = select(of_split(every, testing=False), subjects or [])
    contents = reading_contents()
    people = same_subjects(pairs, contents)
    for group in people:
        if len(group) > 1:
            say(f"in one fold, because they share an image: {', '.join(group)}")
    dealt = make_folds([group[0] for group in people], len(people) if leave_one_out else folds, seed)
    parts = [with_others(fold, people, pairs) for fold in dealt]
    if not any(part.pairs(pairs) for part in parts):
        raise OptionError("no fold holds both subjects of any pair; deal the subjects to fewer folds")
    plans = [plan(part, configuration, training_data or data) for part in parts]
    with interrupt_says(f"what is finished is kept in '{output}'; the same command goes on from there"):
        results = []
        for part, planned in zip(parts, plans, strict=True):
            model = train_fold(
                output / f"fold-{part.number}-of-{part.count}", planned, training_data or data, device.value
            )
            named = f"DLIR {configuration.card.name}={model}"
            methods = make_methods([named], [b.value for b in baseline or []], stages, False, device.value)
            say(f"fold {part.number} of {part.count}: evaluating {', '.join(part.test)}")
            held_out = hold_out(part.pairs(pairs), every, methods, contents, allow_seen=False)
            for line in held_out.notes:
                say(line)
            if held_out.pairs:
                results.append(run(output, initialize.value, chosen, held_out, methods, lambda name, done: None))
        if not results:
            raise EvaluationError("the models of all folds were trained on images of whom they are to be tested on")
        finish(output, together(results), json, full_paths=full_paths)


def plan(fold: Fold, configuration: TrainingConfig, root: Path) -> TrainingConfig:
    """The configuration with the tested subjects' files left out of every source, which are named one by one.

    Raises EvaluationError where a tested subject cannot be told in the training data, or nobody is left to train on.
    """
    from dlir.evaluation.folds import check_kept_back, files_for_training

    sources, kept_back = [], []
    names = {name for subject in fold.test for name in fold.called(subject)}
    for source in configuration.sources:
        files, out = files_for_training(root, source.files, names)
        kept_back += out
        if files:
            # Who is tested is the fold's to say.
            sources.append(source.model_copy(update={"files": files, "test_last": 0}))
    check_kept_back(fold, kept_back, root)
    if not sources:
        raise EvaluationError(f"fold {fold.number} of {fold.count} leaves nobody to train on; use more folds")
    return configuration.model_copy(update={"sources": sources})


def train_fold(folder: Path, configuration: TrainingConfig, root: Path, device: str) -> Path:
    """The fold's model, trained by `dlir train` in a process of its own, or gone on with, or already there.

    Raises OutputError for a folder of another cross-validation, EvaluationError where the training fails.
    """
    import yaml

    from dlir.io.writing import write_json, write_text
    from dlir.training.config_file import load_config

    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / _CONFIG
    if kept.exists() and load_config(kept) != configuration:
        raise OutputError(f"'{folder}' holds a fold of another cross-validation; choose another output folder")
    model = folder / _RUN / "model.safetensors"
    if (folder / _DONE).exists() and model.exists():
        return model
    write_text(kept, yaml.safe_dump(configuration.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    fresh: list[str | Path] = ["--config", kept, "--data", root, "--output", folder / _RUN]
    shared: list[str | Path] = ["--cache", folder.parent / "cache"]
    begun = (folder / _RUN / "run.json").exists()
    _dlir_train(["--resume", folder / _RUN] if begun else fresh + shared, device, folder)
    write_json(folder / _DONE, {"model": str(model.relative_to(folder))})
    return model


def _dlir_train(arguments: Sequence[str | Path], device: str, folder: Path) -> None:
    say(f"{folder.name}: training")
    command = [sys.executable, "-m", "dlir", "train", *map(str, arguments), "--device", device]
    command += ["--quiet"] if is_quiet() else []
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if code:
        raise EvaluationError(f"training of '{folder}' ended with code {code}; its own message stands above")


def together(results: Sequence[Evaluated]) -> Evaluated:
    """The folds as one evaluation: every method once, every fold's learning curves."""
    from dataclasses import replace

    from dlir.evaluation.study import Outcome

    methods: dict[str, Any] = {method.name: method for result in results for method in result.methods}
    outcomes = [result.outcome for result in results]
    rows = [row for outcome in outcomes for row in outcome.rows]
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    histories = [(f"fold {k}", path) for k, result in enumerate(results, 1) for _, path in result.histories]
    return replace(
        results[0],
        pairs=[pair for result in results for pair in result.pairs],
        notes=list(dict.fromkeys(note for result in results for note in result.notes)),
        methods=list(methods.values()),
        outcome=Outcome(rows, problems),
        histories=histories,
    )
