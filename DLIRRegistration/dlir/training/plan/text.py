"""A planned configuration as YAML that says why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from dlir import __version__
from dlir.losses.choices import Similarity
from dlir.networks.spec import StageSpec
from dlir.training.config_file import parse_config
from dlir.training.plan.look import Look, Pairs, look
from dlir.training.plan.rules import Planned, planned
from dlir.training.subjects import Notice

_WHY_SIMILARITY = {
    Similarity.ncc: "correlation over the whole image: one modality, one person",
    Similarity.local_ncc: "correlation in windows: the same edges, but not the same grays",
    Similarity.mind_ssc: "alike surroundings: images of several modalities",
}


def plan_text(data: Path, notice: Notice, pairs: Pairs | None = None) -> tuple[str, Look]:
    """A configuration for the images in `data`, a folder or a manifest, and what was found there.

    notice, pairs: as for `look`. Raises ConfigError or ModelError where there is nothing to plan for.
    """
    plan = planned(look(data, notice, pairs))
    lines = [*_head(plan), *_model(plan), *_sources(plan), *_augmentation(plan), *_training(plan)]
    text = "".join(f"{line}\n" for line in lines)
    parse_config(yaml.safe_load(text), "plan")
    return text, plan.look


def _head(plan: Planned) -> list[str]:
    found = plan.look
    read = f"{found.read} of {found.images} images were read" if found.read < found.images else "all images were read"
    kind = "CT" if found.ct == found.read else "MR or another one" if not found.ct else "CT and another one"
    pairs = {"intra": "within a person", "inter": "between persons", "listed": "listed in the manifest"}[found.pairs]
    return [
        f"# Planned by DLIR {__version__} from the images ({read}): a beginning, not an optimum. Change any line;",
        "# docs/training-keys.md tells of all keys. Before hours are spent: dlir data check, and --max-iterations 2.",
        "card:",
        f"  name: {json.dumps(found.name, ensure_ascii=False)}",
        f"  title: {json.dumps(f'{found.name}, {pairs}', ensure_ascii=False)}",
        "  anatomy: not stated  # what is shown",
        f"  modality: {json.dumps(kind)}  # guessed by the intensities",
        "  # data: what the images are; licence: under which terms the model may be used, which follow from theirs.",
        '  # Both else say "not stated". So do --data-description and --licence.',
    ]


def _model(plan: Planned) -> list[str]:
    found, r = plan.look, plan.resolution
    why = "median voxel of the images" + (", coarsened to what a CPU can train on" if plan.coarsened else "")
    lines = ["model:", "  preprocessing:", f"    resolution: {_flow(r)}  # mm (x, y, z): {why}"]
    if found.thick:
        lines += [
            "    orientation: slices  # thick slices: their axis is z",
            "    native_axes: [false, false, true]  # and is not interpolated",
        ]
    else:
        lines.append("    orientation: canonical  # axes turned to the closest of left, posterior, superior")
    if plan.window is not None:
        lines.append(
            f"    window: {_flow(plan.window)}  # Hounsfield: from air to where 99.5 % of the tissue lies below"
        )
    else:
        lines.append("    percentile: 99.0  # each image from its own minimum to its own 99th percentile")
    low, high = (_lengths(edge) for edge in (found.extents.min(0), found.extents.max(0)))
    size = low if low == high else f"{low} to {high}"
    lines.append(f"  # Images measure {size} mm. Grid spacings halve from stage to stage: the coarsest has some four")
    lines.append(
        "  # cells across the smallest image. Channels: one number more than halvings from resolution to spacing."
    )
    if plan.between:
        lines.append("  # An affine stage first, because the images do not lie over each other.")
    return [*lines, "  stages:", *(f"    - {_stage(stage)}" for stage in plan.stages)]


def _stage(stage: StageSpec) -> str:
    spacing = "" if stage.grid_spacing is None else f", grid_spacing: {_flow(stage.grid_spacing)}"
    return f"{{kind: {stage.kind}, resolution: {_flow(stage.resolution)}{spacing}, channels: {_flow(stage.channels)}}}"


def _sources(plan: Planned) -> list[str]:
    found = plan.look
    lines = ["sources:", f"  - files: {json.dumps(list(found.files), ensure_ascii=False)}"]
    if found.pairs != "listed":
        lines.append(f"    pairs: {found.pairs}  # {found.why}")
    if found.pairs == "inter" and found.by_folder:
        lines.append("    subject: folder  # a person's images, of which no pair is made")
    if plan.held_out:
        lines.append("    validation_fraction: 0.2  # or validation: [names]; a manifest's own splits come first")
    else:
        whose = "pair or subject" if found.pairs == "listed" else "subject"
        lines.append(f"    # Nobody is held out: {found.subjects} {whose}{'s' * (found.subjects != 1)} can spare none.")
    return lines


def _augmentation(plan: Planned) -> list[str]:
    lines = [
        "augmentation:",
        "  rotate90: false  # true where images may be seen any way round",
        "  flip: false",
    ]
    if plan.crop is not None:
        return [
            *lines,
            f"  crop: {_flow(plan.crop)}  # windows of both images, voxels: whole cells of the coarsest stage",
            "  shift: null  # from anywhere in the image",
        ]
    return [
        *lines,
        f"  trim: {plan.trim:g}  # mm cut from the edges by chance: fields of view differ",
        f"  affine: {{rotation: 15, translation: {plan.translation:g}, scale: [0.85, 1.15]}}  # as random_affine asks",
    ]


def _training(plan: Planned) -> list[str]:
    last = plan.similarities[-1]
    lines = [
        f"# Similarity: {_WHY_SIMILARITY[last]}.",
        "# alpha weighs the bending energy, which is in 1/mm²: a coarser grid needs more.",
        "training:",
    ]
    for stage, similarity, alpha, batch, micro in zip(
        plan.stages, plan.similarities, plan.alphas, plan.batches, plan.micro_batches, strict=True
    ):
        more = ", random_affine: 0.5" if stage.kind == "affine" else ""
        lines.append(
            f"  - {{iterations: 1000, {_batch(batch, micro)}, learning_rate: 1.0e-3, alpha: {alpha:g}, "
            f"similarity: {similarity.value}{more}}}"
        )
    tuning = f"{_batch(plan.batches[-1], plan.micro_together)}, learning_rate: 3.0e-4, similarity: {last.value}"
    return [
        *lines,
        f"fine_tuning: {{iterations: 700, {tuning}}}  # all stages together",
        "validation_every: 100",
        "precision: bfloat16  # where the device computes with it, else float32",
    ]


def _batch(batch: int, micro: int) -> str:
    """micro_batch bounds the memory and changes nothing else."""
    return f"batch_size: {batch}" + (f", micro_batch: {micro}" if micro < batch else "")


def _flow(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _lengths(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.0f}" for value in values)
