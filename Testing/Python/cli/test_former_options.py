"""What scripts have come to rely on: every command with its options, and the keys of the report, are still there.

The tables say what the command line of DLIR 0.1 was; what has come since is not in them.
"""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from cli_runs import Pair, succeed
from dlir.cli import app

# Command, option or name of an argument, type or choices, default, number of words if not 1, whether to be repeated.
OPTIONS = """
dlir: --version bool False
register: --fixed str required
register: --moving str required
register: --output Path required
register: --model str 'cardiac-cine'
register: --moving-label str None
register: --fixed-label str None
register: --fixed-mask str None
register: --moving-mask str None
register: --initial-transform Path None
register: --initialize centers|scanner None
register: --device auto|cpu|cuda|mps 'auto'
register: --displacement bool False
register: --json bool False
apply: --transform Path required
apply: --output Path required
apply: --image str None
apply: --label str None
apply: --points str None
apply: --reference str None
apply: --inverse bool False
apply: --json bool False
jacobian: --transform Path required
jacobian: --reference str required
jacobian: --output Path required
jacobian: --mask str None
jacobian: --json bool False
train: --data Path None
train: --output Path None
train: --config Path None
train: --preset str None
train: --resume Path None
train: --device auto|cpu|cuda|mps 'auto'
train: --devices int 1
train: --workers int 1
train: --cache Path None
train: --data-description str None
train: --licence str None
train: --seed int None
train: --max-iterations int None
evaluate: --data Path required
evaluate: --dataset acdc|sunnybrook|dirlab|learn2reg|decathlon|folder|manifest required
evaluate: --output Path required
evaluate: models list[str] None -1
evaluate: --baseline list[elastix|elastix-bending|syn] None multiple
evaluate: --stages bool False
evaluate: --masked bool False
evaluate: --subjects list[str] None multiple
evaluate: --limit int None
evaluate: --initialize centers|scanner 'centers'
evaluate: --device auto|cpu|cuda|mps 'auto'
evaluate: --json bool False
crossvalidate: --data Path required
crossvalidate: --dataset acdc|sunnybrook|dirlab|learn2reg|decathlon|folder|manifest required
crossvalidate: --output Path required
crossvalidate: --config Path None
crossvalidate: --preset str None
crossvalidate: --training-data Path None
crossvalidate: --folds int 3
crossvalidate: --leave-one-out bool False
crossvalidate: --baseline list[elastix|elastix-bending|syn] None multiple
crossvalidate: --stages bool False
crossvalidate: --subjects list[str] None multiple
crossvalidate: --initialize centers|scanner 'centers'
crossvalidate: --seed int 0
crossvalidate: --device auto|cpu|cuda|mps 'auto'
crossvalidate: --json bool False
demo: --output Path required
demo: --model str 'cardiac-cine'
demo: --device auto|cpu|cuda|mps 'auto'
demo: --json bool False
models: --json bool False
models show: name str required
models show: --json bool False
models check: name str required
models check: --json bool False
data check: --data Path required
data check: --config Path None
data check: --preset str None
data check: --cache Path None
data check: --json bool False
"""

# Key and type, of the report on a pair with labels, masks and a displacement.
REPORT = """
device str
fixed.direction list
fixed.file str
fixed.origin list
fixed.shape list
fixed.spacing list
fixed_mask str
fold_free_by_construction bool
initialization.center_distance_mm float
initialization.mode str
initialization.overlap float
jacobian.folding_count int
jacobian.folding_percent float
jacobian.max float
jacobian.mean float
jacobian.min float
jacobian.sd float
labels.1.after.asd_mm float
labels.1.after.dice float
labels.1.after.hd95_mm float
labels.1.after.hd_mm float
labels.1.before.asd_mm float
labels.1.before.dice float
labels.1.before.hd95_mm float
labels.1.before.hd_mm float
model.file str
model.licence str
model.name str
model.sha256 str
model.title str
model.written_by str
moving.direction list
moving.file str
moving.origin list
moving.shape list
moving.spacing list
moving_mask str
outputs.displacement str
outputs.jacobian str
outputs.report str
outputs.transform str
outputs.warped str
outputs.warped_label str
peak_memory_mb float
report_version int
seconds.compose float
seconds.figures float
seconds.jacobian float
seconds.load float
seconds.networks float
seconds.preprocess float
seconds.read float
seconds.resample float
similarity.after float
similarity.before float
similarity.measure str
similarity.voxels_after int
similarity.voxels_before int
versions.SimpleITK str
versions.dlir str
versions.numpy str
versions.python str
versions.torch str
"""

Row = tuple[str, ...]


def found_options() -> dict[Row, Row]:
    """(kind, default, ...) of every (command, option), as the table has them."""
    return {
        (name, option): _row(parameter, kind)
        for name, command in _commands(get_command(app), "")
        for parameter, kind in _parameters(command)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name or "dlir", command
    for word, below in getattr(command, "commands", {}).items():
        yield from _commands(below, f"{name} {word}".strip())


def _parameters(command: Any) -> Iterator[tuple[Any, str]]:
    kinds = typing.get_type_hints(command.callback) if command.callback else {}
    return ((parameter, _kind(kinds[parameter.name])) for parameter in command.params if parameter.name in kinds)


def _kind(hint: Any) -> str:
    inner = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
    if typing.get_origin(hint) is list:
        return f"list[{_kind(inner[0])}]"
    if inner:  # optional
        return _kind(inner[0])
    return "|".join(choice.value for choice in hint) if issubclass(hint, enum.Enum) else str(hint.__name__)


def _row(parameter: Any, kind: str) -> Row:
    default = parameter.default.value if isinstance(parameter.default, enum.Enum) else parameter.default
    more = [str(parameter.nargs)] * (parameter.nargs != 1) + ["multiple"] * getattr(parameter, "multiple", False)
    return (kind, "required" if parameter.required else repr(default), *more)


def former_options() -> dict[Row, Row]:
    """The same of the table."""
    rows = [line.partition(": ") for line in OPTIONS.strip().splitlines()]
    return {(command, rest.split()[0]): tuple(rest.split()[1:]) for command, _, rest in rows}


# Given no model, one that fits is taken now, where it was one for hearts whatever the images were.
CHANGED = {("register", "--model"), ("demo", "--model")}


def test_every_option_is_there_and_means_the_same() -> None:
    found = found_options()
    for name, (kind, *others) in former_options().items():
        now, *others_now = found[name]
        assert _choices(kind) <= _choices(now), name
        # What had to be given may be left out, and what was given once may be given several times.
        same = others == others_now or (others == ["required"] and others_now in (["None"], ["required", "multiple"]))
        assert same != (name in CHANGED), name


def test_what_has_come_since_need_not_be_given() -> None:
    former = former_options()
    commands = {command for command, _ in former}
    new = {name: row for name, row in found_options().items() if name not in former and name[0] in commands}
    assert not [name for name, (_, default, *_) in new.items() if default == "required"]


def test_the_report_has_every_key_it_had(pair: Pair, tmp_path: Path) -> None:
    labels = ["--fixed-label", pair.fixed_label, "--moving-label", pair.moving_label]
    masks = ["--fixed-mask", pair.fixed_label, "--moving-mask", pair.moving_label]
    printed = succeed(pair.register(tmp_path / "out", *labels, *masks, "--displacement", "--json"))
    assert json.loads(printed) == json.loads((tmp_path / "out" / "report.json").read_text())
    names = {"warped.nrrd", "transform.h5", "jacobian.nrrd", "warped_label.nrrd", "displacement.nrrd", "report.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    found = {f"{'.'.join(path)} {type(value).__name__}" for path, value in _leaves(json.loads(printed), ())}
    assert set(REPORT.strip().splitlines()) <= found


def _choices(kind: str) -> set[str]:
    return set(kind.removeprefix("list[").removesuffix("]").split("|"))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, dict):
        yield path, value
    else:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
