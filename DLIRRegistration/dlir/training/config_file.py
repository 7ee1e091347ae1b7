"""Configurations as files: presets by name, read, merged with what they extend, and refused in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dlir.errors import ConfigError, ModelError, nearest
from dlir.model.catalogue import resource_folder
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec
from dlir.training.config import Initial, TrainingConfig
from dlir.training.continuing import continued
from dlir.training.keys import keys_of

EXTENDS, INIT = "extends", "init"
# Files that extend files that extend files: more is a circle.
_DEEPEST = 8


class _Begins(BaseModel):
    """The part of a configuration that says what else is in it."""

    init: Initial | None = None


class _ModelTypes(BaseModel):
    """Checks the types that `ModelSpec.from_dict` takes on trust."""

    model: ModelSpec


def presets() -> dict[str, Path]:
    """The configurations that come with DLIR, by name."""
    return {path.stem: path for path in sorted(resource_folder("Presets").glob("*.yaml"))}


def preset_file(name: str) -> Path:
    """Raises ConfigError for an unknown name, with the nearest."""
    known = presets()
    if name not in known:
        choice = f"choose one of: {', '.join(known)}" if known else "none comes with this DLIR"
        raise ConfigError(f"there is no preset '{name}'{nearest(name, known)}; {choice}; or give --config FILE")
    return known[name]


def load_config(path: Path) -> TrainingConfig:
    """Read a YAML configuration. Raises ConfigError naming the file, the key and what is wrong with it."""
    return parse_config(read_values(path), str(path))


def continuing(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Values of a file whose `init.model` is found from anywhere, where it lies beside the file."""
    init = values.get(INIT)
    if isinstance(init, dict) and isinstance(init.get("model"), str) and (path.parent / init["model"]).is_file():
        return {**values, INIT: {**init, "model": str((path.parent / init["model"]).resolve())}}
    return dict(values)


def read_values(path: Path, depth: int = 0) -> Any:
    """The plain values of a file, laid over those of the file or preset that its `extends` names.

    Mappings are merged; lists and everything else are replaced. Raises ConfigError.
    """
    try:
        values = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read configuration '{path}': {error.strerror}; check the path") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration '{path}' is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        return values
    values = continuing(values, path)
    if EXTENDS not in values:
        return values
    if depth == _DEEPEST:
        raise ConfigError(f"configuration '{path}': {EXTENDS}: it leads in a circle; correct this entry")
    base = str(values.pop(EXTENDS))
    beside = path.parent / base
    return _merged(read_values(beside if beside.is_file() else preset_file(base), depth + 1), values)


def with_initial(values: Any, given: Mapping[str, Any], name: str) -> Any:
    """The values with their entry `init` changed in what options gave. Raises ConfigError where none says a model."""
    if not given or not isinstance(values, dict):
        return values
    init = values.get(INIT) or {}
    if "model" not in {**given, **(init if isinstance(init, dict) else {})}:
        raise ConfigError(f"configuration '{name}' continues no model, so no stage can be frozen or added; give --init")
    return {**values, INIT: {**init, **given} if isinstance(init, dict) else init}


def _merged(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}


def parse_config(values: Any, name: str) -> TrainingConfig:
    """Validate plain values. `name` says in errors where they come from.

    Those that continue a model need not say what its file says. Raises ConfigError, and ModelError for a model to be
    continued that cannot be used.
    """
    if (init := _initial(values, name)) is not None:
        values = continued(values, init, name)
    try:
        config = TrainingConfig.model_validate(values)
        if unknown := _unknown_model_key({"preprocessing": None, **config.model}):
            raise ConfigError(f"configuration '{name}': {unknown}; correct this entry")
        _ModelTypes.model_validate({"model": config.model})
        stages = len(config.spec.stages)
    except ValidationError as error:
        raise ConfigError(f"configuration '{name}': {_explained(error)}; correct this entry") from None
    except ModelError as error:
        raise ConfigError(f"configuration '{name}': {_place_of_error(values['model'])}: {error}; correct it") from None
    if len(config.training) != stages:
        raise ConfigError(
            f"configuration '{name}': training: {len(config.training)} entries for {stages} stages; give one for each"
        )
    _check_phases(config, name)
    return config


def _initial(values: Any, name: str) -> Initial | None:
    try:
        return _Begins.model_validate(values).init if isinstance(values, dict) else None
    except ValidationError as error:
        raise ConfigError(f"configuration '{name}': {_explained(error)}; correct this entry") from None


def _check_phases(config: TrainingConfig, name: str) -> None:
    """Raises ConfigError where a stage would never be trained that ought to be, or nothing would."""
    stages = len(config.training)
    if config.init is None:
        if idle := [k for k, stage in enumerate(config.training) if not stage.iterations]:
            raise ConfigError(
                f"configuration '{name}': training.{idle[0]}.iterations: 0 would leave a new stage untrained, and is "
                "for a model that is continued (init); correct this entry"
            )
    elif beyond := [number for number in config.init.freeze if number > stages]:
        raise ConfigError(f"configuration '{name}': init.freeze: there is no stage {beyond[0]} of {stages}; correct it")
    elif not (config.trained_alone or config.trained_together):
        raise ConfigError(
            f"configuration '{name}': init.freeze: nothing is left to train; freeze fewer stages, or give others "
            "iterations, or a fine_tuning"
        )


def differences(old: TrainingConfig, new: TrainingConfig) -> list[str]:
    """What two configurations differ in, as "training.0.alpha: 0.1 -> 0.2"."""
    a, b = (_flat(config.model_dump(mode="json")) for config in (old, new))
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    return [f"{key}: {a.get(key, 'nothing')} -> {b.get(key, 'nothing')}" for key in keys]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        return {prefix: value}
    return {k: v for key, item in items for k, v in _flat(item, f"{prefix}.{key}" if prefix else key).items()}


# -- what is wrong ------------------------------------------------------------------------------------


def _explained(error: ValidationError) -> str:
    """The first mistake: the path of its key, what may stand there, and what does."""
    first = error.errors()[0]
    place, given = first["loc"], first["input"]
    key = ".".join(map(str, place)) or "the file"
    if first["type"] == "extra_forbidden":
        return f"{key}: this key is unknown{nearest(str(place[-1]), _known_beside(place))}"
    said = f"{key}: {first['msg'].removeprefix('Value error, ')}"
    if first["type"] in ("value_error", "missing") or isinstance(given, (dict, list, BaseModel)):
        return said
    allowed = re.findall("'([^']+)'", first["msg"]) if isinstance(given, str) else []
    return f"{said}, not {given!r}{nearest(str(given), allowed)}"


def _known_beside(place: Sequence[int | str]) -> list[str]:
    """The keys that are valid where an unknown one was found."""
    return keys_of(".".join(part for part in place[:-1] if isinstance(part, str)))


def _unknown_model_key(model: Any) -> str | None:
    """The first key below `model` that nothing knows, and the nearest to it."""
    stages = model.get("stages")
    parts: list[tuple[list[int | str], Any]] = [
        (["model"], model),
        (["model", "preprocessing"], model["preprocessing"]),
    ]
    parts += [(["model", "stages", k], stage) for k, stage in enumerate(stages if isinstance(stages, list) else ())]
    for place, part in parts:
        for key in part if isinstance(part, dict) else ():
            known = _known_beside([*place, key])
            if key not in known:
                return f"{'.'.join(map(str, [*place, key]))}: this key is unknown{nearest(str(key), known)}"
    return None


def _place_of_error(model: Any) -> str:
    """Which part of `model`, whose types are right, contradicts itself."""
    parts: list[tuple[str, type[Any], Any]] = [("model.preprocessing", Preprocessing, model["preprocessing"])]
    parts += [(f"model.stages.{k}", StageSpec, stage) for k, stage in enumerate(model["stages"])]
    for place, kind, part in parts:
        try:
            kind(**part)
        except (ModelError, TypeError):
            return place
    return "model"
