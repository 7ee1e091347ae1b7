"""A configuration is right, or refused in one line that names the file and the key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dlir.errors import ConfigError
from dlir.training.config import load_config, parse_config
from training_runs import plain_config

Change = Callable[[dict[str, Any]], Any]


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_the_shipped_preset_holds_together(repo_root: Path) -> None:
    config = load_config(repo_root / "Resources" / "Presets" / "cardiac-cine.yaml")
    assert config.card.name == "cardiac-cine"
    assert "CC BY-NC-SA" in config.card.licence
    assert len(config.training) == len(config.spec.stages)
    assert config.spec.fold_free
    # Every stage divides the crops, so that training never pads where inference would not.
    assert config.spec.padded_shape(config.augmentation.crop[::-1]) == config.augmentation.crop[::-1]


def test_every_shipped_preset_loads(repo_root: Path) -> None:
    presets = sorted((repo_root / "Resources" / "Presets").glob("*.yaml"))
    assert presets
    for path in presets:
        assert load_config(path).card.name == path.stem


def test_numbers_are_read_as_yaml_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(plain_config(seed=7)).replace("learning_rate: 0.01", "learning_rate: 1e-3"))
    config = load_config(path)
    assert config.seed == 7
    assert [stage.learning_rate for stage in config.training] == [1e-3, 1e-3]
    assert config.spec.control_spacing(0) == (8, 8, 1)


def test_text_outside_ascii_is_read_wherever_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    content = plain_config()
    content["card"]["title"] = "α × § Zürich"
    path.write_bytes(yaml.safe_dump(content, allow_unicode=True).encode())
    code = (
        "import sys; from pathlib import Path; from dlir.training.config import load_config\n"
        "assert load_config(Path(sys.argv[1])).card.title == 'α × § Zürich'\n"
        "assert 'torch' not in sys.modules, 'a configuration needs no torch'\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "0", "LC_ALL": "C"}
    environment["PYTHONCOERCECLOCALE"] = "0"
    command = [sys.executable, "-c", f"exec({code!a})", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr


def stage(**values: Any) -> Change:
    return lambda c: c["model"]["stages"][1].update(values)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        # wrong type
        (lambda c: c["training"][1].update(iterations="many"), "training.1.iterations"),
        (lambda c: c["training"][0].update(iterations=2.5), "training.0.iterations"),
        (lambda c: c["augmentation"].update(crop=[24, 24]), "augmentation.crop"),
        (lambda c: c.update(sources={}), "sources"),
        (stage(resolution=[1, "fine", 4]), "model.stages.1.resolution.1"),
        (stage(channels="wide"), "model.stages.1.channels"),
        (lambda c: c["model"].update(stages=5), "model.stages"),
        # unknown or missing key
        (lambda c: c.update(sead=1), "sead"),
        (lambda c: c["training"][1].update(lr=0.1), "training.1.lr"),
        (stage(chanels=[4, 4, 8]), "chanels"),
        (lambda c: c["model"]["preprocessing"].update(mean=0), "mean"),
        (lambda c: c["model"].update(nothing=0), "nothing"),
        (lambda c: c["model"].pop("preprocessing"), "model.preprocessing"),
        (lambda c: c["card"].pop("licence"), "card.licence"),
        # values that cannot be
        (lambda c: c["training"][1].update(batch_size=0), "training.1.batch_size"),
        (lambda c: c["training"][1].update(learning_rate=float("inf")), "training.1.learning_rate"),
        (lambda c: c["sources"][0].update(largest_motion=1.5), "sources.0.largest_motion"),
        (lambda c: c["augmentation"].update(crop=[24, 0, 4]), "augmentation.crop.1"),
        (lambda c: c.update(seed=-1), "seed"),
        (lambda c: c.update(precision="float16"), "precision"),
        (stage(channels=[4, 8]), "channel"),
        (stage(grid_spacing=[5, 4, 4]), "grid spacing"),
        # entries that do not fit each other
        (lambda c: c["training"].pop(), "training"),
        (lambda c: c["augmentation"].update(crop=[24, 16, 4]), "rotate90"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Change, named: str) -> None:
    content = plain_config(training=[{"iterations": 5}, {"iterations": 5}])
    change(content)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    assert named in refusal(path).removeprefix(f"configuration '{path}'")


def test_an_oblong_crop_is_fine_where_nothing_is_turned() -> None:
    config = parse_config(plain_config(augmentation={"crop": [24, 16, 4], "rotate90": False}), "run.yaml")
    assert config.augmentation.crop == (24, 16, 4)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "check the path" in refusal(tmp_path / "absent.yaml")
    assert "check the path" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"training: [1, 2", b"a: b: c", b"\x89PNG\r\n\x1a\n\x00\xff\xfe", b"\t- x"])
def test_what_is_not_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    assert "not valid YAML" in refusal(path)


@pytest.mark.parametrize("content", ["", "- 1\n- 2\n", "just text"])
def test_yaml_of_another_kind_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    assert "the file" in refusal(path)
