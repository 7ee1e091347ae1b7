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
from dlir.training.config_file import differences, load_config, parse_config, presets
from training_runs import plain_config

Change = Callable[[dict[str, Any]], Any]


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


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
        "import sys; from pathlib import Path; from dlir.training.config_file import load_config\n"
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
        (lambda c: c["card"].pop("title"), "card.title"),
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
        (lambda c: c["augmentation"].update(crop=[24, 16, 4]), "augmentation: crop 24 x 16 is not square"),
        (lambda c: c.update(augmentation={"rotate90": True}), "augmentation: rotate90 needs a crop"),
        (lambda c: c["augmentation"].update(trim=3), "augmentation: trim is for whole images"),
        (
            lambda c: c["augmentation"].update(affine={"scale": [1.2, 0.8]}),
            "affine: scale must be two factors that rise",
        ),
        (
            lambda c: c["training"][0].update(similarity="nmi"),
            "training.0.similarity: Input should be 'ncc', 'local_ncc',",
        ),
        (lambda c: c["training"][0].update(window=4), "training.0: window must be an odd number"),
        (lambda c: c["training"][0].update(batch_size=6, micro_batch=4), "training.0: batch_size 6 is no multiple"),
        (lambda c: c["sources"][0].update(validation_last=3), "sources.0: give only one of validation"),
        (lambda c: c["sources"][0].update(pairs="inter", largest_motion=0.5), "sources.0: largest_motion is for intra"),
        (lambda c: c["sources"][0].update(mask="{name}_mask.nii"), "sources.0.mask: {name} is neither {folder} nor"),
        (lambda c: c["sources"][0].update(mask="{stem_mask.nii"), "sources.0.mask: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Change, named: str) -> None:
    content = plain_config(training=[{"iterations": 5}, {"iterations": 5}])
    change(content)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    assert named in refusal(path).removeprefix(f"configuration '{path}'")


@pytest.mark.parametrize(
    ("change", "key", "nearest"),
    [
        (lambda c: c.update(sead=1), "sead", "seed"),
        (lambda c: c.update(finetuning={}), "finetuning", "fine_tuning"),
        (lambda c: c["training"][1].update(learnin_rate=0.1), "training.1.learnin_rate", "learning_rate"),
        (lambda c: c["sources"][0].update(pair="inter"), "sources.0.pair", "pairs"),
        (lambda c: c["card"].update(license="CC0"), "card.license", "licence"),
        (lambda c: c["augmentation"].update(affine={"rotaton": 3}), "augmentation.affine.rotaton", "rotation"),
        (stage(chanels=[4, 4, 8]), "chanels", "channels"),
        (lambda c: c["model"]["preprocessing"].update(resolutoin=0), "resolutoin", "resolution"),
    ],
)
def test_the_nearest_key_is_proposed_for_one_that_is_unknown(change: Change, key: str, nearest: str) -> None:
    content = plain_config(training=[{"iterations": 5}, {"iterations": 5}])
    change(content)
    with pytest.raises(ConfigError) as caught:
        parse_config(content, "run.yaml")
    assert key in str(caught.value)
    assert f"did you mean '{nearest}'?" in str(caught.value)


def test_nothing_is_proposed_where_nothing_is_near() -> None:
    with pytest.raises(ConfigError, match="qqq: this key is unknown; correct this entry"):
        parse_config(plain_config(qqq=1), "run.yaml")


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


# -- one configuration upon another ------------------------------------------------------------------


def test_a_file_changes_what_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(plain_config(seed=3)))
    (tmp_path / "run.yaml").write_text(
        yaml.safe_dump({"extends": "base.yaml", "precision": "bfloat16", "augmentation": {"shift": 2}})
    )
    base, changed = (load_config(tmp_path / name) for name in ("base.yaml", "run.yaml"))
    assert differences(base, changed) == ["augmentation.shift: 4 -> 2", "precision: float32 -> bfloat16"]


def test_lists_are_replaced_not_merged(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(plain_config()))
    stages = [{"iterations": 1}, {"iterations": 2}]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"extends": "base.yaml", "training": stages}))
    config = load_config(tmp_path / "run.yaml")
    assert [(entry.iterations, entry.batch_size) for entry in config.training] == [(1, 8), (2, 8)]


def test_a_preset_can_be_extended_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("extends: cardiac-cine\nseed: 77\n")
    assert differences(load_config(presets()["cardiac-cine"]), load_config(path)) == ["seed: 2019 -> 77"]
    path.write_text("extends: cardiac-cyne\n")
    assert "there is no preset 'cardiac-cyne' (did you mean 'cardiac-cine'?)" in refusal_anywhere(path)


def test_a_circle_is_refused(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {other}.yaml\n")
    assert "leads in a circle" in refusal_anywhere(tmp_path / "a.yaml")


def refusal_anywhere(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def test_differences_name_what_is_missing_on_either_side() -> None:
    tuning = {"iterations": 3, "batch_size": 2, "learning_rate": 0.1}
    plain, tuned = parse_config(plain_config(), "a"), parse_config(plain_config(fine_tuning=tuning), "b")
    found = differences(plain, tuned)
    assert "fine_tuning.iterations: nothing -> 3" in found
    assert differences(tuned, tuned) == []


def test_fine_tuning_keeps_each_stages_alpha_unless_told_otherwise() -> None:
    stages = [{"iterations": 1, "alpha": 5.0}, {"iterations": 1, "alpha": 0.3}]

    def alphas(**tuning: float) -> list[float]:
        values = plain_config(training=stages, fine_tuning={"iterations": 1, **tuning})
        return parse_config(values, "run.yaml").alphas

    assert alphas() == [5.0, 0.3]
    assert alphas(alpha_factor=0.5) == [2.5, 0.15]
    assert alphas(alpha=0.7) == [0.7, 0.7]
