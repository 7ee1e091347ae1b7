"""`dlir.train` and `dlir.evaluate`: the commands of the same names, as functions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from dlir.errors import OptionError

AnyPath: TypeAlias = "str | os.PathLike[str]"


def train(
    data: AnyPath | None = None,
    output: AnyPath | None = None,
    *,
    config: AnyPath | None = None,
    preset: str | None = None,
    init: AnyPath | None = None,
    freeze: str | None = None,
    add_stages: int | None = None,
    resume: AnyPath | None = None,
    device: str = "auto",
    threads: int | None = None,
    workers: int = 1,
    cache: AnyPath | None = None,
    data_description: str | None = None,
    licence: str | None = None,
    seed: int | None = None,
    max_iterations: int | None = None,
) -> Path:
    """Train a model, as `dlir train` does with the same options; the path of its file, as `register` takes it.

    What the command tells goes to stderr, as there. Raises the `dlir.DLIRError`s of the command: OptionError for
    options that contradict each other, ConfigError where the configuration or the data cannot be used, or a package is
    missing.
    """
    from dlir.cli.train import train as command
    from dlir.registration.choices import Device

    return command(
        data=_path_or_none(data, "data"),
        output=_path_or_none(output, "output"),
        config=_path_or_none(config, "config"),
        preset=preset,
        init=None if init is None else os.fspath(init),
        freeze=freeze,
        add_stages=add_stages,
        resume=_path_or_none(resume, "resume"),
        device=Device(device),
        threads=threads,
        workers=workers,
        cache=_path_or_none(cache, "cache"),
        data_description=data_description,
        licence=licence,
        seed=seed,
        max_iterations=max_iterations,
    )


def evaluate(
    data: AnyPath,
    dataset: str,
    output: AnyPath,
    models: Sequence[AnyPath] = (),
    *,
    baselines: Sequence[str] = (),
    subjects: Sequence[str] = (),
    stages: bool = False,
    masked: bool = False,
    limit: int | None = None,
    initialize: str = "centers",
    allow_seen: bool = False,
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    full_paths: bool = False,
) -> dict[str, Any]:
    """Evaluate models and other methods on a data set, as `dlir evaluate` does with the same options.

    Writes the same tables and report, and gives what the command prints with --json: "methods" has the figures of each,
    "problems" the pairs that were left out and the methods that failed. Raises the `dlir.DLIRError`s of the command.
    """
    from dlir.cli.evaluate import Asked, carry_out, without_paths, write_outputs
    from dlir.registration.progress import silent
    from dlir.registration.threads import use_threads

    use_threads(threads)
    asked = Asked(
        _path(data, "data"),
        dataset,
        _path(output, "output"),
        [os.fspath(model) for model in models],
        baselines,
        subjects,
        stages=stages,
        masked=masked,
        limit=limit,
        initialize=initialize,
        allow_seen=allow_seen,
        device=device,
        overwrite=overwrite,
    )
    evaluated = carry_out(asked, silent)
    return write_outputs(asked.output, evaluated if full_paths else without_paths(evaluated))


def _path_or_none(given: AnyPath | None, name: str) -> Path | None:
    return None if given is None else _path(given, name)


def _path(given: AnyPath, name: str) -> Path:
    """Raises OptionError for an empty one, which would be the current folder."""
    if not os.fspath(given):
        raise OptionError(f"{name} is empty; give a path, or . for the current folder")
    return Path(given)
