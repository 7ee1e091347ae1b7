"""What a model file says of its making."""

from __future__ import annotations

import datetime
import glob
import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric

from dlir import __version__
from dlir.model.card import CONTENT, NOT_STATED, PARENT, content_entry, joined_content, licence_of
from dlir.model.catalogue import SUFFIX
from dlir.model.file import ModelHeader, name_of
from dlir.training.cache import Prepared
from dlir.training.config import TrainingConfig
from dlir.training.draws import Draw, ListedPairs

if TYPE_CHECKING:
    from dlir.training.trainer import RunState

# How a pattern says that a character which stands for others means itself.
_ESCAPED = re.compile(r"\[[*?[]\]")


def make_card(
    config: TrainingConfig, draws: Sequence[Draw], state: RunState, fabric: Fabric, parent: ModelHeader | None = None
) -> dict[str, Any]:
    """The configuration's own card, and what the run adds: images, counts, settings, time, hardware, figures, versions.

    Of the images it says what was measured, and else only what the user has stated. parent: of the model that the run
    continues: what its card says of data, licence and images seen stays beside what this one has to say.
    """
    entry, stated = images_entry(draws), config.card.model_dump()
    card = {
        **stated,
        "data": "; ".join(filter(None, (stated["data"], _described(entry["training"], draws)))),
        **{name: stated[name] or NOT_STATED for name in ("licence", "citation")},
        CONTENT: entry[CONTENT],
        "training": {
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "hours": round(state.seconds / 3600, 2),
            "device": _device(fabric.device),
            "processes": fabric.world_size,
            "threads": torch.get_num_threads(),
            "bending_energy": state.bending_energy,
            "precision": ", then ".join(state.precisions),
            "code_version": __version__,
            "torch": torch.__version__,
            **entry["training"],
            "phases_completed": state.phase,
            "pairs_drawn": state.pairs,
            "config": passed_on(json.loads(config.model_dump_json(exclude={"card", "model"}))),
            "last_validation": state.history[-1] if state.history else {},
        },
    }
    return card if parent is None else _with_parent(card, parent, config)


def _with_parent(card: dict[str, Any], parent: ModelHeader, config: TrainingConfig) -> dict[str, Any]:
    """The card of a model that continues another, whose terms and images are its own too.

    Which of two licences is the stricter is not for software to say, so both are told wherever one would be.
    """
    name = name_of(parent)
    told = {key: str(parent.card.get(key) or NOT_STATED) for key in ("data", "citation")}
    return {
        **card,
        "data": f"{card['data']}; and of '{name}', which it continues: {told['data']}",
        "licence": f"{card['licence']}; and of '{name}', which it continues: {licence_of(parent.card)}",
        "citation": f"{card['citation']}; and of '{name}': {told['citation']}",
        CONTENT: joined_content(card[CONTENT], parent.card),
        PARENT: {
            "name": name,
            "sha256": parent.digest,
            "code_version": parent.code_version,
            "stages": len(parent.spec.stages),
            "added_stages": len(config.spec.stages) - len(parent.spec.stages),
            "frozen_stages": sorted(k + 1 for k in config.frozen),
            # Its images are among those of the whole.
            "card": {key: value for key, value in parent.card.items() if key != CONTENT},
        },
    }


def passed_on(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration for a file that others get: without the persons that its sources name one by one.

    Patterns stay. Files in folders, which are often called as the patient, and validation subjects are counted. A model
    that was continued is called as its file, without the folders above.
    """
    sources = []
    for source in config["sources"]:
        files = _without_persons(source["files"], "files", lambda entry: "/" in entry or "\\" in entry)
        sources.append(
            {**source, "files": files, "validation": _without_persons(source["validation"], "subjects", bool)}
        )
    init = config.get("init")
    named = {} if init is None else {"init": {**init, "model": Path(init["model"]).name.removesuffix(SUFFIX)}}
    return {**config, "sources": sources, **named}


def _without_persons(entries: Sequence[str], what: str, personal: Callable[[str], bool]) -> list[str]:
    named = [entry for entry in entries if personal(entry) and not glob.has_magic(_ESCAPED.sub("", entry))]
    rest = [entry for entry in entries if entry not in named]
    return [*rest, f"({len(named)} {what} named one by one)"] if named else rest


def images_entry(draws: Sequence[Draw]) -> dict[str, Any]:
    """What the card says of the images: how many, whose, of what voxels, and their names by content.

    "spacing": smallest and largest voxel along each axis of the images as they were read, mm (x, y, z).
    """
    training, validation = (sum(counts) for counts in zip(*(draw.counts() for draw in draws), strict=True))
    images, held_out = _images(draws)
    axes = list(zip(*(image.original.spacing for image in (*images, *held_out)), strict=True))
    return {
        "training": {
            "subjects": training,
            "validation_subjects": validation,
            "images": len(images),
            "validation_images": len(held_out),
            "spacing": {
                name: [round(pick(axis), 4) for axis in axes] for name, pick in (("smallest", min), ("largest", max))
            },
        },
        CONTENT: content_entry(*([image.original.hash for image in own] for own in (images, held_out))),
    }


def _images(draws: Sequence[Draw]) -> tuple[list[Prepared], list[Prepared]]:
    """Each image once: those that were trained with, and the others, by which the training was judged."""
    images = {volume.image_file: volume for draw in draws for volume in draw.images()}
    held_out = {volume.image_file: volume for draw in draws for volume in draw.validation_images()}
    return list(images.values()), [volume for file, volume in held_out.items() if file not in images]


def _described(counts: Mapping[str, Any], draws: Sequence[Draw]) -> str:
    """The images in words. counts: as `images_entry` has them."""
    whose = "pair" if any(isinstance(draw, ListedPairs) for draw in draws) else "subject"
    parts = [f"{_counted(counts['images'], 'image')} of {_counted(counts['subjects'], whose)} to train with"]
    if counts["validation_subjects"]:
        aside = _counted(counts["validation_images"], "image"), _counted(counts["validation_subjects"], whose)
        parts.append(f"{aside[0]} of {aside[1]} to validate on")
    smallest, largest = (" × ".join(f"{n:g}" for n in own) for own in counts["spacing"].values())
    parts.append(f"voxels of {smallest}{'' if smallest == largest else f' to {largest}'} mm")
    return ", ".join(parts)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()}, {os.cpu_count()} cores)"
