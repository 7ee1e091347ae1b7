"""Every configuration that comes with DLIR: what it says, and that it trains, on small synthetic volumes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlir.model.file import load_model
from dlir.model.multistage import MultiStageModel
from dlir.training.cache import Cache
from dlir.training.config import TrainingConfig
from dlir.training.config_file import differences, load_config, presets
from dlir.training.data import load_data
from dlir.training.engine import make_fabric
from dlir.training.run_folder import RunFolder, RunOptions
from dlir.training.trainer import Trainer
from trainer_runs import run
from training_runs import Blobs, bent, voxels, write_volume

NAMES = sorted(presets())


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_holds_together(name: str) -> None:
    config = load_config(presets()[name])
    assert config.card.name == name
    assert len(config.training) == len(config.spec.stages)
    crops = [stage.crop or config.augmentation.crop for stage in config.training]
    for k, crop in enumerate(crops):
        if crop is not None:
            # The stage divides its crops, so that training never pads where inference would not.
            factors, cell = config.spec.factors(k), config.spec.control_spacing(k)
            assert all(n % c == 0 for n, c in zip(crop, cell, strict=True)), (k, crop, factors)


def test_the_variants_of_the_paper_differ_in_what_they_say() -> None:
    """Table 1: one stage or two, with bending energy or without."""
    multi, plain, single, both = (
        load_config(presets()[f"cardiac-cine-paper{variant}"])
        for variant in ("", "-no-bending", "-single", "-single-no-bending")
    )
    assert [stage.alpha for stage in multi.training] == [0.05, 0.05]
    assert [stage.alpha for stage in plain.training] == [0, 0]
    assert {d.split(":")[0] for d in differences(multi, plain)} == {
        "card.name",
        "card.title",
        "training.0.alpha",
        "training.1.alpha",
    }
    assert single.spec.stages == multi.spec.stages[1:]
    assert (single.training[0].alpha, both.training[0].alpha) == (0.05, 0)
    assert single.training[0] == multi.training[1]
    resolutions = [stage.resolution for stage in multi.spec.stages]
    assert resolutions == [(2.5, 2.5, 16.0), (1.25, 1.25, 8.0)]
    assert [stage.grid_spacing for stage in multi.spec.stages] == [(20.0, 20.0, 16.0), (10.0, 10.0, 8.0)]
    assert [stage.batch_size for stage in multi.training] == [16, 8]


def test_chest_ct_between_persons_is_table_3() -> None:
    config = load_config(presets()["chest-ct-inter"])
    stages = config.spec.stages
    assert [stage.kind for stage in stages] == ["affine", "bspline", "bspline", "bspline"]
    assert [stage.resolution[0] for stage in stages] == [8, 8, 4, 2]
    assert [stage.grid_spacing[0] for stage in stages[1:] if stage.grid_spacing] == [64, 32, 16]
    assert [stage.batch_size for stage in config.training] == [16, 8, 4, 2]
    assert {n for stage in stages for n in stage.channels} == {32}
    assert {stage.pooling for stage in stages} == {"strided"}
    assert len(stages[0].channels) == 3
    assert config.spec.preprocessing.window == (-1000, 3095)
    assert config.augmentation.trim == 32
    assert [stage.alpha for stage in config.training] == [0, 0.05, 0.05, 0.05]


def test_4d_chest_ct_is_table_5() -> None:
    config = load_config(presets()["chest-ct-4d"])
    assert [stage.resolution for stage in config.spec.stages] == [(4, 4, 5), (2, 2, 2.5), (1, 1, 2.5)]
    assert [s.grid_spacing for s in config.spec.stages] == [(32, 32, 40), (16, 16, 20), (8, 8, 10)]
    assert [stage.batch_size for stage in config.training] == [8, 4, 2]
    assert config.spec.preprocessing.window == (-1000, -200)
    for k, stage in enumerate(config.training):
        assert stage.crop is not None
        seen = [n // f for n, f in zip(stage.crop, config.spec.factors(k), strict=True)]
        assert seen == [128, 128, 64]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_nothing_of_the_images_of_whoever_trains_with_it(name: str) -> None:
    card = load_config(presets()[name]).card
    assert (card.data, card.licence, card.citation) == (None, None, None)
    text = presets()[name].read_text(encoding="utf-8")
    assert not re.search(r"CC BY|licence:|citation:|data:", text)


def scaled_down(config: TrainingConfig) -> TrainingConfig:
    """The same networks and grids; one iteration of two pairs a stage, in windows no larger than they must be."""
    values: dict[str, Any] = config.model_dump()
    count = len(config.spec.stages)
    cells = [config.spec.control_spacing(k) for k in range(count)]
    for k, stage in enumerate(values["training"]):
        stage |= {"iterations": 1, "batch_size": 2, "micro_batch": 1}
        if stage["crop"] is not None:
            stage["crop"] = [2 * n for n in cells[k]]
    if values["fine_tuning"] is not None:
        values["fine_tuning"] |= {"iterations": 1, "batch_size": 2}
    if config.augmentation.crop is not None:
        values["augmentation"]["crop"] = [max(2 * n, 4) for n in config.spec.smallest]
    source = {key: value for key, value in values["sources"][0].items() if not key.startswith(("validation", "test"))}
    values["sources"] = [{**source, "files": ["**/*.nii.gz"], "largest_motion": 0.0}]
    return TrainingConfig.model_validate(values)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_trains(name: str, tmp_path: Path, one_thread: None) -> None:
    config = scaled_down(load_config(presets()[name]))
    spec = config.spec
    low, high = spec.preprocessing.window or (0.0, 1000.0)
    for subject in range(2):
        for frame in range(2):
            x, y, z = (max(2, n) + subject for n in config.spec.smallest)
            image = Blobs(subject, (x, y, z), 30)(bent(voxels((z, y, x)), 1.0 - 2 * frame, (z, y, x)))
            path = tmp_path / "data" / f"{subject}" / f"{frame}.nii.gz"
            write_volume(path, low + (high - low) * image / image.max(), spec.preprocessing.resolution)
    folder = RunFolder(tmp_path / "run")
    folder.begin(RunOptions(config, tmp_path / "data", tmp_path / "cache"))
    left_out: list[str] = []
    draws = load_data(
        config, tmp_path / "data", Cache(tmp_path / "cache", spec), lambda what, why: left_out.append(why)
    )
    assert left_out == []
    trainer = Trainer(config, draws, folder, make_fabric("cpu"))
    untrained = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    model, header = load_model(run(trainer))
    assert isinstance(model, MultiStageModel)
    assert header.spec == spec
    for k in range(len(spec.stages)):
        changed = [not np.array_equal(model.state_dict()[n], untrained[n]) for n in untrained if f"networks.{k}." in n]
        assert all(changed), k
    assert [row["phase"] for row in trainer.state.history] == list(range(len(trainer.phases)))
    assert all(np.isfinite(row["loss"]) for row in trainer.state.history)
