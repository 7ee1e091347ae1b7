"""`dlir evaluate`: models and other methods on a data set, measured, compared and reported (§4)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlir.cli import completion
from dlir.cli.common import (
    EXIT_INCOMPLETE,
    DeviceOption,
    FullPathsOption,
    JsonOption,
    OverwriteOption,
    ThreadsOption,
    complain,
    interrupt_says,
    print_json,
    progress_bar,
    say,
)
from dlir.errors import EvaluationError, OptionError, OutputError, how_to_install
from dlir.registration.choices import Device, Initialization
from dlir.registration.progress import Progress
from dlir.registration.threads import use_threads

if TYPE_CHECKING:
    from dlir.data.layouts import DataSet, Pair
    from dlir.evaluation.held_out import HeldOut
    from dlir.evaluation.methods.base import Method
    from dlir.evaluation.study import Evaluated

OUTPUTS = {
    "pairs": "pairs.csv",
    "summary": "summary.csv",
    "comparisons": "comparisons.csv",
    "tables": "tables.md",
    "report": "report.html",
}
PARQUET = "pairs.parquet"


class DataKind(str, Enum):
    """Values of --dataset; the same as dlir.data.layouts.DATA_SETS, which needs SimpleITK."""

    acdc = "acdc"
    sunnybrook = "sunnybrook"
    dirlab = "dirlab"
    learn2reg = "learn2reg"
    decathlon = "decathlon"
    folder = "folder"
    manifest = "manifest"


class Baseline(str, Enum):
    """Values of --baseline."""

    elastix = "elastix"
    elastix_bending = "elastix-bending"
    syn = "syn"


def evaluate(
    data: Annotated[
        Path, typer.Option(metavar="FOLDER|TABLE", help="Folder of the data set, or the table of a manifest.")
    ],
    dataset: Annotated[DataKind, typer.Option(help="How the data are laid out.")],
    output: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for records and report; what it holds is not computed again.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", autocompletion=completion.models, help="Names or files of models; NAME=FILE names one."
        ),
    ] = None,
    baseline: Annotated[
        list[Baseline] | None,
        typer.Option(
            metavar="elastix|elastix-bending|syn",
            help="Other methods; elastix takes its settings from the first model's stages. Repeatable.",
        ),
    ] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Every model and elastix up to each stage.")] = False,
    masked: Annotated[
        bool, typer.Option("--masked", help="elastix inside the fixed masks, where there are any.")
    ] = False,
    subjects: Annotated[
        list[str] | None,
        typer.Option(metavar="SUBJECT", help="Only pairs of these subjects; patterns like 'patient09?'. Repeatable."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many pairs, spread over all; both ways stay together.")
    ] = None,
    initialize: Annotated[
        Initialization, typer.Option(help="Where all methods start from; auto chooses for each pair.")
    ] = Initialization.centers,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Score pairs that a model was trained on too; every table marks them.")
    ] = False,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    full_paths: FullPathsOption = False,
    json: JsonOption = False,
) -> None:
    """Evaluate MODELs on a data set with labels or landmarks.

    Writes pairs.csv (one row per pair and method; as pairs.parquet too where pyarrow is installed), summary.csv,
    comparisons.csv (Wilcoxon, Holm), tables.md and report.html, which needs no network. Finished registrations are
    kept in results.jsonl and transforms/: the same command goes on where it was stopped. A pair that cannot be used is
    reported and left out; so are pairs that a model was trained on or chosen by, told by what their images hold. Where
    a method fails on a pair, all is written as well, and the exit code is 1.

    \b
    acdc        patientNNN folders with Info.cfg
    sunnybrook  DICOM and manual contours, or cine.nii.gz and label_phaseTT
    dirlab      Case1Pack to Case10Pack, as they are unpacked
    learn2reg   *_dataset.json beside imagesTr, as NLST comes
    decathlon   imagesTr and labelsTr (or images, labels): between subjects
    folder      NAME.nii.gz with NAME_label, NAME_mask, NAME_landmarks beside
                it; a subfolder is a subject, or else each image is one
    manifest    CSV, TSV or JSON with columns fixed, moving and, as wanted,
                fixed_label, moving_label, fixed_mask, moving_mask,
                fixed_landmarks, moving_landmarks, fixed_subject,
                moving_subject, subject, split; or with columns image and
                label, mask, subject, time, split, paired as a folder is;
                where some have split test, only these
    """
    use_threads(threads)
    asked = Asked(
        data,
        dataset.value,
        output,
        models or [],
        [b.value for b in baseline or []],
        subjects or [],
        stages=stages,
        masked=masked,
        limit=limit,
        initialize=initialize.value,
        allow_seen=allow_seen,
        device=device.value,
        overwrite=overwrite,
    )
    with interrupt_says(f"what is finished is kept in '{output}'; the same command goes on from there"):
        with progress_bar(wanted=not json) as progress:
            evaluated = carry_out(asked, progress)
        finish(output, evaluated, json, full_paths=full_paths)


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated, as of the options of the command."""

    data: Path
    dataset: str
    output: Path
    models: Sequence[str]
    baselines: Sequence[str] = ()
    subjects: Sequence[str] = ()
    stages: bool = False
    masked: bool = False
    limit: int | None = None
    initialize: str = Initialization.centers.value
    allow_seen: bool = False
    device: str = Device.auto.value
    overwrite: bool = False


def carry_out(asked: Asked, progress: Progress) -> Evaluated:
    """Evaluate what is missing; what is finished is kept in the folder. Raises the DLIRErrors of the parts."""
    check_packages()
    check_folder(asked.output, overwrite=asked.overwrite)
    from dlir.data.layouts import open_data_set
    from dlir.data.pair import select
    from dlir.evaluation.held_out import hold_out, reading_contents

    chosen = open_data_set(asked.dataset, asked.data)
    every = chosen.pairs()
    # What is left out does not count towards the limit.
    pairs = select(of_split(every, testing=True), asked.subjects, asked.limit if asked.allow_seen else None)
    methods = make_methods(asked.models, asked.baselines, asked.stages, asked.masked, asked.device)
    check_baselines([Baseline(name) for name in asked.baselines])
    held_out = hold_out(pairs, every, methods, reading_contents(), allow_seen=asked.allow_seen)
    if not held_out.pairs:
        raise EvaluationError(f"nothing is left to evaluate: {'; '.join(held_out.notes)}")
    for line in held_out.notes:
        say(line)
    pairs = select(held_out.pairs, limit=asked.limit)
    return run(asked.output, asked.initialize, chosen, replace(held_out, pairs=pairs), methods, progress)


def check_folder(output: Path, *, overwrite: bool) -> None:
    """Raises OutputError, before any work, where a file would be replaced in a folder that holds no evaluation, and for
    a name that cannot be written.
    """
    from dlir.evaluation.study import RESULTS
    from dlir.io.writing import writable

    writable(output)
    if overwrite or (output / RESULTS).exists():
        return
    for name in (*OUTPUTS.values(), PARQUET):
        if os.path.lexists(output / name):
            raise OutputError(
                f"'{output / name}' is there already, and there is no {RESULTS} of an evaluation beside it; choose "
                "another output folder, or give --overwrite to have it replaced"
            )


def check_packages() -> None:
    """Raises OutputError, before any work, where a package is missing that tables, tests or figures need."""
    for package in ("pandas", "scipy", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise OutputError(f"an evaluation needs '{package}', which is not installed: {how_to_install('eval')}")


def check_baselines(baselines: Sequence[Baseline]) -> None:
    """Raises OutputError, before any work, where the program of a baseline is missing."""
    for baseline in baselines:
        package = "ants" if baseline is Baseline.syn else "itk"
        if importlib.util.find_spec(package) is None:
            raise OutputError(
                f"--baseline {baseline.value} needs '{package}', which is not installed: {how_to_install('bench')}"
            )


def of_split(pairs: list[Pair], *, testing: bool) -> list[Pair]:
    """Where a manifest keeps some pairs for testing: only these, or only the others. Says so."""
    wanted = [pair for pair in pairs if (pair.split == "test") == testing]
    if not 0 < len(wanted) < len(pairs):
        return pairs
    say(f"taking {len(wanted)} of {len(pairs)} pairs: those {'' if testing else 'not '}marked with split test")
    return wanted


# -- methods ------------------------------------------------------------------------------------------


def make_methods(
    models: Sequence[str], baselines: Sequence[str], stages: bool, masked: bool, device_name: str
) -> list[Method]:
    """What was before, the baselines, the models. Raises OptionError, ModelError and DeviceError."""
    from dlir.evaluation.methods.identity import Identity
    from dlir.evaluation.methods.network import NetworkMethod
    from dlir.model.catalogue import resolve_model
    from dlir.registration.devices import choose_device

    device = choose_device(device_name)
    networks: list[NetworkMethod] = []
    for text in models:
        name, _, file = text.rpartition("=") if not Path(text).is_file() else ("", "", text)
        path = resolve_model(file)
        whole = NetworkMethod(path, device, name=name)
        counts = range(1, len(whole.stages) + 1) if stages else ()
        networks += [NetworkMethod(path, device, stages=k, name=name) for k in counts] or [whole]
    methods: list[Method] = [Identity(), *_baselines(baselines, networks, masked), *networks]
    names = [method.name for method in methods]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(f"two methods are called '{twice}'; name the models, as in 'first=FILE' 'second=FILE'")
    return methods


def _baselines(baselines: Sequence[str], networks: Sequence[Any], masked: bool) -> list[Method]:
    from dlir.evaluation.methods.elastix import ElastixMethod
    from dlir.evaluation.methods.network import stage_names
    from dlir.evaluation.methods.syn import SynMethod

    found: list[Method] = []
    for baseline in dict.fromkeys(baselines):
        if baseline == Baseline.syn.value:
            found.append(SynMethod(affine=bool(networks) and networks[0].spec.stages[0].kind == "affine"))
            continue
        if not networks:
            raise OptionError(f"--baseline {baseline} copies the stages of the first model; name a model")
        spec = networks[0].spec
        every = stage_names(spec)
        used = {len(network.stages) for network in networks if network.spec is spec or network.path == networks[0].path}
        title = baseline.replace("-", " + ")
        for count in sorted(used):
            name = title if used == {len(every)} else f"{title} {every[count - 1]}"
            bending = baseline == Baseline.elastix_bending.value
            found.append(ElastixMethod(name, spec.stages[:count], spec.preprocessing, bending=bending, masked=masked))
    return found


# -- work ---------------------------------------------------------------------------------------------


def run(
    output: Path, mode: str, data: DataSet, held_out: HeldOut, methods: Sequence[Method], progress: Progress
) -> Evaluated:
    """Evaluate what is missing. Raises EvaluationError where nothing at all could be evaluated."""
    from dlir.evaluation.report.charts import HISTORY
    from dlir.evaluation.study import Evaluated, Study

    study, pairs = Study(output, mode), held_out.pairs
    outcome = study.run(data, pairs, methods, progress)
    for problem in outcome.problems:
        said = problem.message.removeprefix(f"{problem.pair}: ")
        say(f"left out: {problem.pair}{', ' + problem.method if problem.method else ''}: {said}")
    if not outcome.rows:
        raise EvaluationError(f"none of {len(pairs)} pairs could be evaluated: {outcome.problems[0].message}")
    beside = {method.path.parent / HISTORY: method.name for method in methods if hasattr(method, "path")}
    histories = [(name, path) for path, name in beside.items() if path.is_file()]
    return Evaluated(study, data, pairs, methods, outcome, histories, held_out.seen, held_out.notes)


def write_outputs(output: Path, evaluated: Evaluated) -> dict[str, Any]:
    """Tables and report of an evaluation, and what --json prints; Parquet where its package is installed."""
    from dlir.evaluation import tables
    from dlir.evaluation.report.build import build_report
    from dlir.evaluation.significance import compare
    from dlir.evaluation.summary import measures
    from dlir.io.writing import OutputFolder, write_text

    table = evaluated.shared
    texts = {
        "pairs": tables.pairs_csv(evaluated.table),
        "summary": tables.summary_csv(table),
        "comparisons": tables.comparisons_csv([c for measure in measures(table) for c in compare(table, measure)]),
        "tables": "\n\n".join([_tables(evaluated), *evaluated.notes]) + "\n",
        "report": build_report(evaluated),
    }
    written = dict(OUTPUTS)
    with OutputFolder(output) as outputs:
        outputs.replaces([*OUTPUTS.values(), PARQUET])  # also where Parquet can no longer be written
        for name, text in texts.items():
            write_text(outputs.file(OUTPUTS[name]), text)
        if tables.can_write_parquet():
            tables.write_pairs_parquet(outputs.file(PARQUET), evaluated.table)
            written["parquet"] = PARQUET
    return {**_summary(evaluated), "outputs": written}


def _tables(evaluated: Evaluated) -> str:
    from dlir.evaluation import tables

    return "\n\n".join(map(tables.markdown, tables.summary_tables(evaluated.shared, tables.median_iqr)))


def finish(output: Path, evaluated: Evaluated, json: bool, *, full_paths: bool) -> None:
    """Write tables and report, and print what there is to print. The exit code is 1 where a method failed."""
    summary = write_outputs(output, evaluated if full_paths else without_paths(evaluated))
    if json:
        print_json(summary)
    else:
        print(_tables(evaluated))  # the notes below them in the file were told before the work began
        print(f"report  {output / OUTPUTS['report']}")
    if failed := failures(evaluated):
        for line in failed:
            complain(line)
        raise typer.Exit(EXIT_INCOMPLETE)


def without_paths(evaluated: Evaluated) -> Evaluated:
    """The same with messages that name files without the folders above them."""
    from dataclasses import replace

    from dlir.io.source import without_folders

    outcome = evaluated.outcome
    problems = [replace(problem, message=without_folders(problem.message)) for problem in outcome.problems]
    return replace(evaluated, outcome=replace(outcome, problems=problems))


def failures(evaluated: Evaluated) -> list[str]:
    """For each method that failed on pairs that it was to register: on how many, and what that means."""
    problems = evaluated.outcome.problems
    unusable = {problem.pair for problem in problems if not problem.method}
    tried = len({pair.name for pair in evaluated.pairs} - unusable)
    lines = []
    for name in dict.fromkeys(problem.method for problem in problems if problem.method):
        count = len({problem.pair for problem in problems if problem.method == name})
        lacks = "it is missing from" if count == tried else "these are missing, for all methods, from"
        lines.append(f"{name} failed on {count} of {tried} pairs, see above; {lacks} tables and report")
    return lines


def _summary(evaluated: Evaluated) -> dict[str, Any]:
    from dataclasses import asdict

    from dlir.evaluation.summary import count_cases, measures, statistics

    def plain(values: Any) -> dict[str, Any]:
        return {key: None if value != value else value for key, value in asdict(statistics(values)).items()}

    table = evaluated.shared
    keys = ["seconds", *(m.key for m in measures(table))]
    return {
        "data": evaluated.data.title,
        "pairs": count_cases(table),
        "problems": [asdict(problem) for problem in evaluated.outcome.problems],
        "notes": list(evaluated.notes),
        "methods": {
            str(name): {key: plain(own[key]) for key in keys} | {"seen": int((own["seen"] != "").sum())}
            for name, own in table.groupby("method", sort=False)
        },
    }
