"""What a model says of itself, as text for people: one line, or all of it. Needs no torch."""

from __future__ import annotations

from typing import Any

from dlir.model.file import ModelHeader


def one_line(header: ModelHeader) -> str:
    """Anatomy, modality and licence; what the card does not say is left out."""
    return " · ".join(str(header.card[key]) for key in ("anatomy", "modality", "licence") if header.card.get(key))


def full_text(header: ModelHeader) -> str:
    """The whole card, with file, stages, training and figures: lines of plain text, aligned in columns."""
    sections = {key: value for key, value in header.card.items() if isinstance(value, dict) and value}
    facts = {
        "file": f"{header.path} ({header.path.stat().st_size / 1e6:.1f} MB)",
        "sha256": header.digest,
        "fold-free": "yes, by construction" if header.spec.fold_free else "not guaranteed",
    }
    if any(stage.grid_spacing is not None for stage in header.spec.stages):  # older cards do not say it
        energy = sections.get("training", {}).get("bending_energy", "not stated")
        facts["bending"] = f"energy in training: {energy}"
    lines = _pairs([(key, _plain(value)) for key, value in header.card.items() if key not in sections])
    lines += _pairs(list(facts.items()))
    lines += ["", "stages", *_stages(header)]
    for key, value in sections.items():
        # The whole configuration is for machines: `dlir models show --json` has it.
        rows = _flat({name: item for name, item in value.items() if name not in ("config", "bending_energy")}, "  ")
        lines += ["", key, *_pairs(rows)]
    return "\n".join(lines)


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


def _lengths(lengths: tuple[float, ...]) -> str:
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
