"""What a model file says of its making."""

from __future__ import annotations

import datetime
import glob
import json
import os
import platform
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric

from dlir import __version__
from dlir.training.config import TrainingConfig
from dlir.training.draws import Draw

if TYPE_CHECKING:
    from dlir.training.trainer import RunState

# How a pattern says that a character which stands for others means itself.
_ESCAPED = re.compile(r"\[[*?[]\]")


def make_card(config: TrainingConfig, draws: Sequence[Draw], state: RunState, fabric: Fabric) -> dict[str, Any]:
    """The configuration's own card, and what the run adds: counts, settings, time, hardware, figures and versions."""
    training, validation = (sum(counts) for counts in zip(*(draw.counts() for draw in draws), strict=True))
    return {
        **config.card.model_dump(),
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
            "subjects": training,
            "validation_subjects": validation,
            "images": len({volume.image_file for draw in draws for volume in draw.images()}),
            "phases_completed": state.phase,
            "pairs_drawn": state.pairs,
            "config": passed_on(json.loads(config.model_dump_json(exclude={"card", "model"}))),
            "last_validation": state.history[-1] if state.history else {},
        },
    }


def passed_on(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration for a file that others get: without the persons that its sources name one by one.

    Patterns stay. Files in folders, which are often called as the patient, and validation subjects are counted.
    """
    sources = []
    for source in config["sources"]:
        files = _counted(source["files"], "files", lambda entry: "/" in entry or "\\" in entry)
        sources.append({**source, "files": files, "validation": _counted(source["validation"], "subjects", bool)})
    return {**config, "sources": sources}


def _counted(entries: Sequence[str], what: str, personal: Callable[[str], bool]) -> list[str]:
    named = [entry for entry in entries if personal(entry) and not glob.has_magic(_ESCAPED.sub("", entry))]
    rest = [entry for entry in entries if entry not in named]
    return [*rest, f"({len(named)} {what} named one by one)"] if named else rest


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()}, {os.cpu_count()} cores)"
