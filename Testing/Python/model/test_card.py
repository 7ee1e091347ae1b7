"""What a model says of itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cli_runs import CARD, SOURCE, make_model
from dlir.io.content import CONTENT_VERSION
from dlir.model.card import content_entry, full_text, one_line, seen_images, trained_for
from dlir.model.catalogue import all_models, resolve_model
from dlir.model.file import ModelHeader, read_header
from dlir.networks.spec import StageSpec


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> ModelHeader:
    return read_header(make_model(tmp_path_factory.mktemp("card") / "tiny.safetensors"))


def test_one_line(header: ModelHeader) -> None:
    assert one_line(header) == "none · any · CC0"
    assert one_line(replace(header, card={"modality": "CT", "anatomy": ""})) == "CT · licence not stated"
    for card in ({}, {"licence": ""}, {"licence": None}, {"licence": "not stated"}):
        assert one_line(replace(header, card=card)) == "licence not stated"
        assert "licence     not stated" in full_text(replace(header, card=card)).splitlines()


def test_full_text_has_all_but_the_configuration(header: ModelHeader) -> None:
    lines = full_text(header).splitlines()
    for key in ("name", "title", "anatomy", "modality", "licence"):
        assert f"{key:<10}  {CARD[key]}" in lines
    assert lines[lines.index("stages") + 2] == "  1  bspline  2 × 2 × 2        16 × 16 × 16       4, 4, 4, 4"
    assert "  hours     0.5" in lines
    assert not any("config" in line for line in lines)


def test_the_bending_energy_of_the_training_is_said(header: ModelHeader) -> None:
    """Of a model that is older than the field, that it is not stated; nothing where nothing bends."""
    assert "bending     energy in training: not stated" in full_text(header).splitlines()
    assert "bending     energy in training: not stated" in full_text(replace(header, card={})).splitlines()
    stated = replace(header, card={"training": {"bending_energy": "integral", "hours": 0.5}})
    assert "bending     energy in training: integral" in full_text(stated).splitlines()
    affine = replace(header.spec, stages=(StageSpec("affine", (4, 4, 4), (2, 2)),))
    assert "bending" not in full_text(replace(header, spec=affine))


def test_what_each_phase_was_trained_for() -> None:
    card = read_header(resolve_model("hippocampus")).card
    assert trained_for(card) == ["NCC", "local NCC, 5 voxels", "local NCC, 7 voxels", "local NCC, 7 voxels"]
    last = {**card["training"]["config"]["training"][0], "similarity": "mind_ssc"}
    newer = {"training": {"config": {"training": [{**last, "similarity": "mutual_information"}], "fine_tuning": last}}}
    assert trained_for(newer) == ["mutual information", "MIND-SSC"]
    unknown = {"training": {"config": {"training": [{**last, "similarity": "of the future"}], "fine_tuning": None}}}
    assert trained_for(unknown) == []
    for older in ({}, {"training": {}}, {"training": {"config": {"seed": 1}}}, {"training": "long"}):
        assert trained_for(older) == []


def test_what_a_model_has_seen_is_counted_and_not_listed(header: ModelHeader) -> None:
    names = [f"{k:016x}" for k in range(5)]
    card = {**header.card, "content": content_entry(names[:3], names[2:])}
    assert seen_images(card) == dict.fromkeys(names[:3], "training") | dict.fromkeys(names[3:], "validation")
    text = full_text(replace(header, card=card))
    assert "content     hashes of 3 training and 2 validation images" in text.splitlines()
    card["training"] = {"images": 5, "validation_images": 2}
    assert (
        "content     hashes of 3 training and 2 validation images, of 5 and 2 files: identical images count once"
        in full_text(replace(header, card=card)).splitlines()
    )
    assert names[0] not in text


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "text",
        {},
        {"version": 0, "training": ["0" * 16]},
        {"version": CONTENT_VERSION, "training": "0123456789abcdef"},
        {"version": CONTENT_VERSION, "training": None},
        {"version": CONTENT_VERSION, "training": [], "validation": [3]},
    ],
)
def test_a_card_that_does_not_say_what_was_seen(header: ModelHeader, entry: object) -> None:
    """Not there, of another kind, or by hashes that are computed otherwise."""
    card = {**header.card, "content": entry}
    assert seen_images(card) is None
    assert "nobody can check" in full_text(replace(header, card=card))


def test_the_models_that_come_with_dlir_say_it() -> None:
    found = [entry.header for entry in all_models() if entry.bundled]
    assert len(found) >= 2
    for header in found:
        assert header is not None
        assert header.card["training"]["bending_energy"] in (
            "midpoint rule on the working grid, 6.5 to 12 % below the integral",
            "integral",
        )


def test_a_card_is_amended_by_command(tmp_path: Path) -> None:
    file = make_model(tmp_path / "tiny.safetensors")
    script = SOURCE.parent / "Resources" / "amend_model.py"
    for name in ("training.bending_energy", "held_out.data", "note"):
        command = [sys.executable, script, "card", file, name, f"{name}, said later"]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True)
    bending = {"bending_energy": "training.bending_energy, said later"}
    assert read_header(file).card == {
        **CARD,
        "training": {**CARD["training"], **bending},  # type: ignore[dict-item]
        "held_out": {"data": "held_out.data, said later"},
        "note": "note, said later",
    }


def test_what_a_model_was_made_for_is_told(header: ModelHeader) -> None:
    assert "domain      not stated" in full_text(header)
    shipped = full_text(read_header(resolve_model("hippocampus")))
    assert re.search(r"^domain +\d+ pairs, whole and cropped; images of \d+ x \d+ x \d+ to \d+ x", shipped, re.M)


def test_needs_no_torch(tmp_path: Path) -> None:
    file = make_model(tmp_path / "tiny.safetensors")
    code = (
        "import sys; from pathlib import Path; from dlir.model.card import full_text; "
        f"from dlir.model.file import read_header; full_text(read_header(Path({str(file)!r}))); "
        "sys.exit(bool({'torch', 'SimpleITK', 'safetensors', 'typer', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=False).returncode == 0
