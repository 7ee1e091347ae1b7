"""What a model says of itself, as text for people: one line, or all of it. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlir.io.content import CONTENT_VERSION
from dlir.losses.choices import Similarity
from dlir.model.file import ModelHeader

NOT_STATED = "not stated"
# The card's entry of the images that a model has seen, by `content_hash`, and how it has seen them.
CONTENT = "content"
TRAINING, VALIDATION = "training", "validation"
# The card's entry of the model that this one continues: its name, its digest, how, and its own card.
PARENT = "parent"


def licence_of(card: Mapping[str, Any]) -> str:
    """The terms under which a model may be used, as far as its card knows."""
    return str(card.get("licence") or NOT_STATED)


def content_entry(training: Iterable[str], validation: Iterable[str]) -> dict[str, Any]:
    """What `seen_images` reads: the content hashes of the images that were trained with, and of those validated on."""
    trained = sorted(set(training))
    return {"version": CONTENT_VERSION, TRAINING: trained, VALIDATION: sorted(set(validation) - set(trained))}


def joined_content(own: Mapping[str, Any], parent: Mapping[str, Any]) -> dict[str, Any]:
    """The content entry of a model that continues the one with the card `parent`, which has seen that one's images too.

    own: of the images that it was continued on. Where the parent's card has none, the entry is none that `seen_images`
    reads: nobody could check whether others were held out.
    """
    seen = seen_images(parent)
    if seen is None:
        return {**own, "version": None}
    lists = {how: [name for name, way in seen.items() if way == how] for how in (TRAINING, VALIDATION)}
    return content_entry(*([*own[how], *lists[how]] for how in (TRAINING, VALIDATION)))


def seen_images(card: Mapping[str, Any]) -> dict[str, str] | None:
    """TRAINING or VALIDATION by the content hash of each image that a model has seen; None where its card has none, or
    something else in their place.
    """
    entry = card.get(CONTENT)
    if not isinstance(entry, dict) or entry.get("version") != CONTENT_VERSION:
        return None
    lists = {how: entry.get(how, []) for how in (VALIDATION, TRAINING)}
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists.values()):
        return None
    return {name: how for how, names in lists.items() for name in names}


def trained_for(card: Mapping[str, Any]) -> list[str]:
    """The similarity that each phase of the training was for, in words; empty where the card does not say."""
    try:
        config = card["training"]["config"]
        phases = [*config["training"], *([config["fine_tuning"]] if config["fine_tuning"] else [])]
        names = [Similarity(phase["similarity"]) for phase in phases]
        windows = [f", {int(phase['window'])} voxels" for phase in phases]
        return [
            name.words + window * (name is Similarity.local_ncc) for name, window in zip(names, windows, strict=True)
        ]
    except (KeyError, TypeError, ValueError):
        return []


def one_line(header: ModelHeader) -> str:
    """Anatomy, modality and licence; of these what the card does not say is left out, but for the licence."""
    licence = licence_of(header.card)
    shown = [str(header.card[key]) for key in ("anatomy", "modality") if header.card.get(key)]
    return " · ".join([*shown, f"licence {licence}" if licence == NOT_STATED else licence])


def full_text(header: ModelHeader) -> str:
    """The whole card, with file, stages, training and figures: lines of plain text, aligned in columns."""
    card = {**header.card, "licence": licence_of(header.card)}
    parent = card.pop(PARENT, None)
    sections = {key: value for key, value in card.items() if isinstance(value, dict) and value and key != CONTENT}
    facts = {
        "file": f"{header.path} ({header.path.stat().st_size / 1e6:.1f} MB)",
        "sha256": header.digest,
        "fold-free": "yes, by construction" if header.spec.fold_free else "not guaranteed",
    }
    if any(stage.grid_spacing is not None for stage in header.spec.stages):  # older cards do not say it
        energy = sections.get("training", {}).get("bending_energy", NOT_STATED)
        facts["bending"] = f"energy in training: {energy}"
    facts["content"] = _content(header.card)
    if (domain := header.domain) is None:
        facts["domain"] = NOT_STATED
    else:
        facts["domain"] = f"{domain.pairs} pairs, whole and cropped; images of {domain.sizes}"
    lines = _pairs([(key, _plain(value)) for key, value in card.items() if key not in (*sections, CONTENT)])
    lines += _pairs(list(facts.items()))
    lines += ["", "stages", *_stages(header)]
    if isinstance(parent, dict):
        rows = _flat({key: value for key, value in parent.items() if key != "card"}, "  ")
        lines += ["", "continues", *_pairs(rows)]
    for key, value in sections.items():
        # The whole configuration is for machines: `dlir models show --json` has it.
        rows = _flat({name: item for name, item in value.items() if name not in ("config", "bending_energy")}, "  ")
        lines += ["", key, *_pairs(rows)]
    return "\n".join(lines)


def _content(card: Mapping[str, Any]) -> str:
    """Whether it can be told of an image that the model has seen it; the hashes are for machines."""
    seen = seen_images(card)
    if seen is None:
        return "hashes of the images not stated, so nobody can check whether others were held out"
    counts = [list(seen.values()).count(how) for how in (TRAINING, VALIDATION)]
    text = "hashes of {} training and {} validation images".format(*counts)
    if PARENT in card:
        return f"{text}, with those of the model that it continues"
    stated = card.get("training")
    files = [stated.get(name) for name in ("images", "validation_images")] if isinstance(stated, dict) else counts
    if None in files or files == counts:
        return text
    return text + ", of {} and {} files: identical images count once".format(*files)


def _pairs(pairs: list[tuple[str, str]]) -> list[str]:
    width = max([10, *(len(name) for name, _ in pairs)])
    return [f"{name:<{width}}  {text}" for name, text in pairs]


def _stages(header: ModelHeader) -> list[str]:
    rows = [["", "kind", "resolution (mm)", "grid spacing (mm)", "channels"]]
    for i, stage in enumerate(header.spec.stages):
        spacing = "" if stage.grid_spacing is None else _lengths(stage.grid_spacing)
        rows.append([str(i + 1), stage.kind, _lengths(stage.resolution), spacing, ", ".join(map(str, stage.channels))])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [f"  {line}".rstrip() for line in lines]


def _lengths(lengths: Sequence[float]) -> str:
    return " × ".join(f"{length:g}" for length in lengths)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as dotted names."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, _plain(value))]
    return rows


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.5g}" if isinstance(value, float) else str(value)
