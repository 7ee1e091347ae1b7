"""The reference of all keys: complete, and as its command prints it. What is wrong with a key is told by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli_runs import succeed
from dlir.errors import ConfigError
from dlir.training.config_file import parse_config
from dlir.training.keys import SECTIONS, keys_of, reference
from training_runs import plain_config


def test_the_page_is_what_the_command_prints(repo_root: Path) -> None:
    assert (repo_root / "docs" / "training-keys.md").read_text(encoding="utf-8") == succeed(["presets", "keys"])


def test_every_key_is_told_with_what_it_takes() -> None:
    sections = reference().split("\n## ")[1:]
    assert len(sections) == len(SECTIONS)
    for name, text in zip(SECTIONS, sections, strict=True):
        rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
        assert [row[0].strip("`") for row in rows] == keys_of(name)
        for key, value, default, told in rows:
            assert len(told) > 5, (name, key)
            assert value, (name, key)
            assert default, (name, key)
            assert "Raises" not in told, (name, key)


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(plain_config(**changes), "own.yaml")
    return str(caught.value)


def test_a_wrong_value_is_answered_with_its_path_and_what_is_allowed() -> None:
    stages = plain_config()["training"]
    assert "training.0.similarity: Input should be 'ncc', 'local_ncc'" in (
        said := refusal(training=[{**stages[0], "similarity": "local_nc"}, stages[1]])
    )
    assert said.endswith(", not 'local_nc' (did you mean 'local_ncc'?); correct this entry")
    assert "validation_every: Input should be greater than 0, not 0;" in refusal(validation_every=0)
    assert "seed: Input should be a valid integer" in refusal(seed="many")
    assert ", not 'many';" in refusal(seed="many")
    assert "precision: Input should be 'float32' or 'bfloat16', not 'float16'" in refusal(precision="float16")
    assert "card.title: Field required; correct" in refusal(card={"name": "x", "anatomy": "x", "modality": "x"})


def model(**changes: Any) -> dict[str, Any]:
    own = plain_config()["model"]
    return {"model": {**own, "stages": [own["stages"][0], {**own["stages"][1], **changes}]}}


def test_a_mistake_in_the_model_is_answered_with_its_path() -> None:
    assert "model.stages.1.chanels: this key is unknown (did you mean 'channels'?);" in refusal(**model(chanels=[4]))
    assert "model.stages.1: a stage of 2 downsamplings needs 3 channel numbers" in refusal(**model(channels=[4]))
    assert "model.stages.1: stage kind 'spline' is unknown; use one of affine, bspline" in refusal(
        **model(kind="spline")
    )
    assert "model.stages.1.resolution.1: Input should be a valid number" in refusal(**model(resolution=[1, "x", 4]))
    own = plain_config()["model"]
    changed = {**own, "preprocessing": {**own["preprocessing"], "orientation": "sliced"}}
    assert "model.preprocessing: orientation 'sliced' is unknown; use one of canonical, slices" in refusal(
        model=changed
    )
    changed = {**own, "preprocessing": {**own["preprocessing"], "resolution": [3.0, 3.0, 4.0]}}
    assert "model: stage resolution (2.0, 2.0, 4.0) mm is no multiple" in refusal(model=changed)
