"""A model that is continued on other images: what a configuration takes from its file, and what a run begins with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from dlir.errors import ConfigError, ModelError
from dlir.model.catalogue import resolve_model
from dlir.model.file import ModelHeader, name_of, read_header
from dlir.model.spec import Preprocessing
from dlir.networks.spec import StageSpec
from dlir.training.config import ANY_IMAGE, Initial

if TYPE_CHECKING:
    from dlir.model.multistage import MultiStageModel

# A model that is continued has learned already: of the smallest learning rate that it was trained with, this share.
_SLOWER = 1 / 3
# What a model's own configuration says that holds for other images too.
_KEPT = ("augmentation", "seed", "validation_every", "precision")
# How a model is continued whose card does not say how it was trained.
_UNKNOWN: dict[str, Any] = {"iterations": 1000, "learning_rate": 1e-3}
_WHOLE = {"rotate90": False, "flip": False}
# Of the images a model is continued on, so many are held out where nothing else is said.
_HELD_OUT = 0.2


def located(init: Initial) -> Initial:
    """The same by a name of the catalogue or a whole path, so that it is found from anywhere. Raises ModelError."""
    path = resolve_model(init.model)
    known = path.stem == init.model and path.name != init.model
    return init if known else init.model_copy(update={"model": str(path.resolve())})


def continued(values: Mapping[str, Any], init: Initial, name: str) -> dict[str, Any]:
    """Plain values of a configuration with everything filled in that they leave to the model that is continued.

    name: where the values come from, for messages. Raises ConfigError where they contradict the model, and ModelError
    for a model that cannot be read.
    """
    init = located(init)
    header = read_header(resolve_model(init.model))
    if init.sha256 not in (None, header.digest):
        raise ConfigError(
            f"configuration '{name}': init.sha256: the weights of '{init.model}' are others than when this was written "
            f"({header.digest} now); leave the entry out if that is meant"
        )
    stages = _stages(values, init, header, name)
    added = len(stages) - len(header.spec.stages)
    given = values.get("model") or {}  # which may have keys that are none: they are told as always
    model = {**given, **header.spec.to_dict(), "stages": [asdict(stage) for stage in stages]}
    schedule = _schedule(header, added)
    training = values.get("training", schedule["training"])
    if isinstance(training, list) and len(training) == len(header.spec.stages):
        training = [*training, *training[-1:] * added]
    card = values.get("card") or {}
    return {
        **schedule,
        **values,
        "init": {**init.model_dump(), "add_stages": added, "sha256": header.digest},
        "card": {**_card(header), **card} if isinstance(card, dict) else card,
        # As JSON has it, so that what is read from a run's folder is equal.
        "model": json.loads(json.dumps(model)),
        "training": training,
    }


def begin_as(model: MultiStageModel, parent: MultiStageModel) -> None:
    """Give the stages of a model the weights of the model that it continues; those it has not, the last one's."""
    last = len(parent.networks) - 1
    for k, network in enumerate(model.networks):
        network.load_state_dict(parent.networks[min(k, last)].state_dict())


# -- stages and preprocessing -------------------------------------------------------------------------


def _stages(values: Mapping[str, Any], init: Initial, header: ModelHeader, name: str) -> list[StageSpec]:
    """All stages of the continued model. What the values say of its `model` may only repeat what its file says."""
    own = list(header.spec.stages)
    last, called = own[-1], f"the model '{name_of(header)}', which is continued,"
    given = values.get("model") or {}
    if not isinstance(given, dict):
        raise ConfigError(f"configuration '{name}': model: it must have keys; leave it out to take that of {called}")
    if "preprocessing" in given:
        whole = _parsed(Preprocessing, given["preprocessing"], "preprocessing", name)
        _check_same(whole, header.spec.preprocessing, "preprocessing", name)
    stated = given.get("stages") or []
    if not isinstance(stated, list):
        raise ConfigError(f"configuration '{name}': model.stages: it must be a list; leave it out to take the model's")
    added = init.add_stages or max(0, len(stated) - len(own))
    if stated and len(stated) not in (len(own), len(own) + added):
        raise ConfigError(
            f"configuration '{name}': model.stages: {len(stated)} stages, and {called} has {len(own)}, with {added} "
            "to add; leave `model` out, or give all of them"
        )
    if added and last.kind == "affine":
        raise ConfigError(
            f"configuration '{name}': init.add_stages: the last stage of {called} is affine, and only a "
            "deformable one can be repeated; choose another model"
        )
    stages = [*own, *[last] * added]
    for k, (entry, stage) in enumerate(zip(stated, stages, strict=False)):
        _check_same(
            _parsed(StageSpec, entry, f"stages.{k}", name),
            stage,
            f"stages.{k}",
            name,
            "an added stage is a copy of the last one; " if k >= len(own) else "",
        )
    return stages


def _parsed(kind: type[Any], entry: Any, key: str, name: str) -> Any:
    """A specification, or the values themselves where they make none: then they differ, and the first key tells."""
    try:
        return kind(**entry)
    except TypeError:
        return entry
    except ModelError as error:
        raise ConfigError(f"configuration '{name}': model.{key}: {error}; correct this entry") from None


def _check_same(given: Any, own: Any, key: str, name: str, why: str = "") -> None:
    if given == own:
        return
    for field in fields(own):
        said = given.get(field.name) if isinstance(given, dict) else getattr(given, field.name, given)
        if said != getattr(own, field.name):
            raise ConfigError(
                f"configuration '{name}': model.{key}.{field.name}: {_shown(said)}, and the model that is continued "
                f"has {_shown(getattr(own, field.name))}; {why}a model sees images only as it was trained to see them: "
                "leave `model` out, or train a new one without init"
            )
    raise ConfigError(
        f"configuration '{name}': model.{key}: it has other keys than the model that is continued; leave `model` out"
    )


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)


# -- what else its file says --------------------------------------------------------------------------


def _card(header: ModelHeader) -> dict[str, Any]:
    """The card's names and words, which a configuration may replace; of data and licence the run's card tells both."""
    own = {key: str(header.card.get(key) or "not stated") for key in ("title", "anatomy", "modality")}
    return {"name": f"{name_of(header)}-continued", **own, "title": f"{own['title']}, continued"}


def _schedule(header: ModelHeader, added: int) -> dict[str, Any]:
    """How a model is continued where nothing else is said: added stages alone, then all together, by smaller steps."""
    training = header.card.get("training")
    config = training.get("config") if isinstance(training, dict) else None
    config = config if isinstance(config, dict) else {"augmentation": _WHOLE}
    count = len(header.spec.stages)
    stages = config.get("training") or [_UNKNOWN] * count
    tuning = config.get("fine_tuning") or {}
    slower = _SLOWER * min(float(entry["learning_rate"]) for entry in (*stages, *([tuning] if tuning else [])))
    last = stages[-1]
    iterations = last["iterations"] or tuning["iterations"]
    kinds = ("batch_size", "micro_batch", "similarity", "window", "crop")
    together = tuning or {"iterations": iterations, **{key: last[key] for key in kinds if key in last}}
    pairs = "inter" if header.between_persons else "intra"
    return {
        **{key: config[key] for key in _KEPT if key in config},
        "sources": [{"files": list(ANY_IMAGE), "pairs": pairs, "validation_fraction": _HELD_OUT}],
        "training": [
            *({**entry, "iterations": 0} for entry in stages),
            *[{**last, "iterations": iterations, "learning_rate": _SLOWER * float(last["learning_rate"])}] * added,
        ],
        "fine_tuning": {**together, "learning_rate": slower},
    }
