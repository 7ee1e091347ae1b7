"""Continuing a model on other images: its weights, what is frozen and added, and what its card says of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cli_runs import refuse, succeed
from dlir.errors import ConfigError
from dlir.model.card import full_text, licence_of, seen_images
from dlir.model.file import load_model, read_header, rewrite_card
from dlir.model.multistage import MultiStageModel
from dlir.registration.oneshot import Registration
from dlir.training.chain import run_chain
from dlir.training.config import TrainingConfig
from dlir.training.config_file import load_config, parse_config
from dlir.training.phases import phases
from dlir.training.trainer import Trainer
from dlir.transforms.bspline import pad_coefficients
from trainer_runs import FINE_TUNING, Start, run, run_until, same, weights
from training_runs import Blobs, bent, make_batch, make_config, plain_config, tensor, voxels, write_subjects

SOURCES = plain_config()["sources"]


@pytest.fixture(scope="module")
def parent(make_trainer: Callable[[TrainingConfig, Path], Trainer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two stages, the first of which has learned something."""
    config = make_config(fine_tuning=FINE_TUNING, training=[{"iterations": 2, "batch_size": 1}] * 2)
    path = run(make_trainer(config, tmp_path_factory.mktemp("parent") / "run"))
    card = {**read_header(path).card, "name": "heart", "data": "hearts of ours", "licence": "CC BY 4.0"}
    rewrite_card(path, card)
    return path


def continuing(parent: Path, init: dict[str, Any] | None = None, **changes: Any) -> TrainingConfig:
    """As little as can be said, but for the names of the files."""
    values = {"init": {"model": str(parent), **(init or {})}, "sources": SOURCES, **changes}
    return parse_config(values, "test.yaml")


# -- what is trained ----------------------------------------------------------------------------------


def test_a_run_begins_with_the_models_weights(start: Start, parent: Path) -> None:
    begun, _ = load_model(parent)
    assert same(weights(start(continuing(parent))), begun.state_dict())


def test_added_stages_are_the_last_one_again(start: Start, parent: Path) -> None:
    """So the model of three stages does, before it is trained, what the second one does when it is applied twice."""
    trainer, (begun, _) = start(continuing(parent, {"add_stages": 1})), load_model(parent)
    model = trainer.model
    assert [len(m.networks) for m in (begun, model)] == [2, 3]
    assert model.spec.stages == (*begun.spec.stages, begun.spec.stages[-1])
    image = Blobs(1)
    fixed, moving = (tensor(image(bent(voxels(), s))) for s in (-1, 1))
    batch = make_batch(fixed, moving)
    with torch.no_grad():
        two, three = (run_chain(m, batch, k, end_to_end=False) for m, k in ((begun, 1), (model, 2)))
        again = _coefficients(begun, 1, two.fixed, two.warped)
    assert [torch.equal(a.coefficients, b.coefficients) for a, b in zip(two.splines, three.splines, strict=False)] == [
        True,
        True,
    ]
    assert three.splines[2].coefficients.abs().max() > 0
    torch.testing.assert_close(three.splines[2].coefficients, again)


def _coefficients(model: MultiStageModel, stage: int, fixed: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
    """By the network itself."""
    spacing = fixed.new_tensor(model.spec.control_spacing(stage))[:, None, None, None]
    found: torch.Tensor = pad_coefficients(model.networks[stage](torch.cat([fixed, warped], 1)) * spacing)
    return found


def test_frozen_stages_stay_to_the_last_bit(start: Start, parent: Path) -> None:
    init = {"freeze": [1], "add_stages": 1}
    stages = [{"iterations": 2, "batch_size": 1, "alpha": 0.7}] * 3
    trainer = start(continuing(parent, init, training=stages, fine_tuning={"iterations": 2, "batch_size": 1}))
    # Though the first one has iterations, which its being frozen overrules.
    assert [phase.name for phase in trainer.phases] == ["stage 2/3", "stage 3/3", "fine-tuning"]
    assert trainer.phases[-1].alphas == (0.0, 0.7, 0.7)
    before = weights(trainer)
    run(trainer)
    after = weights(trainer)
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"1", "2"}


def test_a_stage_frozen_between_two_others_passes_on_what_the_first_is_to_learn(start: Start, parent: Path) -> None:
    config = continuing(parent, {"freeze": [2], "add_stages": 1}, training=[{"iterations": 0}] * 3)
    trainer = start(config.model_copy(update={"fine_tuning": config.fine_tuning.model_copy(update={"iterations": 2})}))  # type: ignore[union-attr]
    before = weights(trainer)
    run(trainer)
    after = weights(trainer)
    assert {n.split(".")[1] for n in before if not torch.equal(before[n], after[n])} == {"0", "2"}


def test_stages_of_their_own_begin_where_the_model_ended(start: Start, parent: Path) -> None:
    """New stages are adapted to the data before their first iteration; those that have learned are not."""
    stages = [{"iterations": 1, "batch_size": 1, "learning_rate": 1e-9}, {"iterations": 0}]
    trainer = start(continuing(parent, training=stages, fine_tuning=None))
    before = weights(trainer)
    run(trainer)
    after = weights(trainer)
    assert not same(before, after)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-8, rtol=0)


def test_it_is_resumed_without_the_model_that_it_began_with(start: Start, parent: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(parent.read_bytes())
    whole = start(continuing(own, {"add_stages": 1}, validation_every=2), "whole")
    run(whole)
    config = continuing(own, {"add_stages": 1}, validation_every=2)
    run_until(start(config, "stopped"), 4)
    own.unlink()
    resumed = start(config, "stopped")
    assert not same(weights(resumed), weights(whole))
    resumed.resume()
    run(resumed)
    assert same(weights(resumed), weights(whole))


# -- what is filled in --------------------------------------------------------------------------------


def test_what_is_not_said_is_taken_from_the_model(parent: Path) -> None:
    config, former = continuing(parent, {"add_stages": 1}), make_config(fine_tuning=FINE_TUNING)
    assert config.augmentation == former.augmentation
    assert config.spec.preprocessing == former.spec.preprocessing
    assert config.card.name == "heart-continued"
    assert [(stage.iterations, stage.batch_size) for stage in config.training] == [(0, 1), (0, 1), (2, 1)]
    assert config.training[2].learning_rate == pytest.approx(1e-3 / 3)
    assert config.fine_tuning is not None
    assert config.fine_tuning.learning_rate == pytest.approx(1e-3 / 3)  # of the smallest rate, not of FINE_TUNING's
    assert [phase.name for phase in phases(config)] == ["stage 3/3", "fine-tuning"]
    bare = parse_config({"init": {"model": "hippocampus"}}, "test.yaml")
    assert (bare.sources[0].pairs, bare.sources[0].validation_fraction) == ("inter", 0.2)
    assert config.init is not None
    assert config.init.sha256 == read_header(parent).digest


@pytest.mark.parametrize("name", ["cardiac-cine", "hippocampus"])
def test_every_model_that_ships_can_be_continued_with_nothing_said(name: str) -> None:
    config = parse_config({"init": {"model": name, "add_stages": 1}}, "test.yaml")
    known = read_header_of(name)
    assert len(config.spec.stages) == len(known.spec.stages) + 1
    assert config.spec.stages[:-1] == known.spec.stages
    assert config.fine_tuning is not None
    assert config.fine_tuning.learning_rate <= 5e-4 / 3


def read_header_of(name: str) -> Any:
    from dlir.model.catalogue import resolve_model

    return read_header(resolve_model(name))


def test_a_model_whose_card_says_nothing_of_its_training_can_be_continued(parent: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes(parent.read_bytes())
    rewrite_card(bare, {})
    config = continuing(bare)
    assert config.card.name == "bare-continued"
    assert [phase.name for phase in phases(config)] == ["fine-tuning"]


def test_what_is_read_again_is_the_same(parent: Path, tmp_path: Path) -> None:
    """A configuration that is written with all filled in, as `crossvalidate` keeps its folds."""
    config = continuing(parent, {"freeze": [2], "add_stages": 2})
    kept = tmp_path / "kept.yaml"
    kept.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(kept) == config
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def test_a_model_lies_beside_the_file_that_names_it(parent: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(parent.read_bytes())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"init": {"model": "model.safetensors"}, "sources": SOURCES}))
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "run.yaml").write_text("extends: ../base.yaml\nseed: 4\n")
    config = load_config(tmp_path / "below" / "run.yaml")
    assert config.init is not None
    assert (config.init.model, config.seed) == (str(tmp_path / "model.safetensors"), 4)


def test_stages_may_be_written_out(parent: Path) -> None:
    model = plain_config()["model"]
    longer = {**model, "stages": [*model["stages"], model["stages"][1]]}
    config = continuing(parent, model=longer)
    assert config.init is not None
    assert (len(config.spec.stages), config.init.add_stages) == (3, 1)


# -- what is refused ----------------------------------------------------------------------------------


def _other(**preprocessing: Any) -> dict[str, Any]:
    model = plain_config()["model"]
    return {"model": {**model, "preprocessing": {**model["preprocessing"], **preprocessing}}}


def _stages(*stages: dict[str, Any]) -> dict[str, Any]:
    model = plain_config()["model"]
    return {"model": {**model, "stages": [{**model["stages"][min(k, 1)], **s} for k, s in enumerate(stages)]}}


@pytest.mark.parametrize(
    ("init", "changes", "said"),
    [
        ({}, _other(resolution=[1.0, 1.0, 2.0]), "model.preprocessing.resolution: [1.0, 1.0, 2.0], and the model"),
        ({}, _other(window=[0, 1]), "model.preprocessing.window: [0, 1], and the model that is continued has null"),
        ({}, _stages({}, {"channels": [4, 8, 8]}), "model.stages.1.channels: [4, 8, 8]"),
        ({}, _stages({}, {}, {"channels": [4, 8, 8]}), "an added stage is a copy of the last one"),
        ({}, _stages({}), "model.stages: 1 stages, and the model 'heart', which is continued, has 2"),
        ({"add_stages": 2}, _stages({}, {}, {}), "model.stages: 3 stages"),
        ({"freeze": [1, 2]}, {}, "nothing is left to train"),
        ({"freeze": [3]}, {}, "init.freeze: there is no stage 3 of 2"),
        ({"freeze": [0]}, {}, "init.freeze.0"),
        ({"frozen": [1]}, {}, "init.frozen: this key is unknown (did you mean 'freeze'?)"),
        ({"sha256": "0" * 64}, {}, "init.sha256: the weights of"),
        ({}, {"training": [{"iterations": 0}] * 2, "fine_tuning": None}, "nothing is left to train"),
        ({}, {"training": [{"iterations": 1}]}, "training: 1 entries for 2 stages"),
    ],
)
def test_what_contradicts_the_model_is_refused(
    parent: Path, init: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        continuing(parent, init, **changes)
    assert said in str(caught.value)
    assert str(caught.value).startswith("configuration 'test.yaml': ")


def test_a_new_model_is_no_model_that_is_continued() -> None:
    with pytest.raises(ConfigError, match=r"training.1.iterations: 0 would leave a new stage untrained"):
        make_config(training=[{"iterations": 1}, {"iterations": 0}])


# -- what the card says -------------------------------------------------------------------------------


def test_the_card_says_of_both_what_they_were_trained_on(start: Start, parent: Path) -> None:
    card = {"data": "hearts of theirs", "licence": "CC0", "citation": "theirs"}
    trainer = start(continuing(parent, {"freeze": [1], "add_stages": 1}, card=card))
    path = run(trainer)
    former, now = read_header(parent), read_header(path)
    assert licence_of(now.card) == "CC0; and of 'heart', which it continues: CC BY 4.0"
    assert now.card["data"].startswith("hearts of theirs; 6 images")
    assert now.card["data"].endswith("; and of 'heart', which it continues: hearts of ours")
    kept = now.card["parent"]
    assert (kept["name"], kept["sha256"], kept["frozen_stages"]) == ("heart", former.digest, [1])
    assert (kept["stages"], kept["added_stages"]) == (2, 1)
    assert kept["card"] == {key: value for key, value in former.card.items() if key != "content"}
    assert seen_images(now.card) == seen_images(former.card)  # the same images, for once
    assert now.card["training"]["config"]["init"]["model"] == "model"  # without the folders above
    assert str(parent.parent) not in json.dumps(now.card)
    text = full_text(now)
    assert "continues" in text
    assert former.digest in text
    assert "with those of the model that it continues" in text


def test_images_that_the_former_model_has_seen_are_known_to_the_one_that_continues_it(
    start: Start, parent: Path, tmp_path: Path
) -> None:
    former = tmp_path / "former.safetensors"
    former.write_bytes(parent.read_bytes())
    card = read_header(parent).card
    rewrite_card(former, {**card, "content": {**card["content"], "training": ["old"], "validation": ["aside"]}})
    seen = seen_images(read_header(run(start(continuing(former)))).card)
    assert seen is not None
    assert seen["old"] == "training"
    assert seen["aside"] == "validation"
    assert len(seen) == 2 + 8
    rewrite_card(former, {key: value for key, value in card.items() if key != "content"})
    assert seen_images(read_header(run(start(continuing(former), "again"))).card) is None


# -- the command --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_continues_a_model_and_the_result_registers(parent: Path, tmp_path: Path) -> None:
    write_subjects(tmp_path / "data", ["one", "two", "three", "four", "held"])
    output = tmp_path / "run"
    config = tmp_path / "own.yaml"
    config.write_text(yaml.safe_dump({"sources": SOURCES}))
    command = ["train", "--init", parent, "--config", config, "--data", tmp_path / "data", "--output", output]
    refuse([*command, "--freeze", "one"], tmp_path, "--freeze takes numbers of stages")
    refuse([*command[:1], *command[3:], "--freeze", "1"], tmp_path, "give --init")
    check = ["data", "check", "--init", parent, "--config", config, "--data", tmp_path / "data"]
    assert "intra" in succeed(check)
    said = [*command, "--freeze", "1", "--add-stages", "1", "--max-iterations", "1", "--device", "cpu"]
    assert "model.safetensors" in succeed(said)
    begun, ended = load_model(parent)[0].state_dict(), load_model(output / "model.safetensors")[0].state_dict()
    assert all(torch.equal(begun[name], ended[name]) for name in begun if name.startswith("networks.0."))
    assert [row["phase"] for row in json.loads((output / "history.json").read_text())] == [0, 1]
    pair = sorted((tmp_path / "data" / "held").glob("*_frame??.nii.gz"))
    model = output / "model.safetensors"
    succeed(["register", "--fixed", pair[0], "--moving", pair[1], "--model", model, "--output", tmp_path / "out"])
    assert (tmp_path / "out" / "report.json").is_file()
    refuse(["train", "--resume", output, "--init", parent], tmp_path, "leave out --init")
    assert "model.safetensors" in succeed(["train", "--resume", output, "--device", "cpu"])


def test_another_presets_preprocessing_is_refused(tmp_path: Path) -> None:
    command = ["train", "--init", "cardiac-cine", "--preset", "hippocampus", "--data", tmp_path, "--output"]
    refuse([*command, tmp_path / "run"], tmp_path, "model.preprocessing.resolution", "leave `model` out")
    refuse(
        ["train", "--init", "cardiac-cin", "--data", tmp_path, "--output", tmp_path / "run"], tmp_path, "cardiac-cine"
    )


def test_a_continued_model_registers(start: Start, parent: Path) -> None:
    from dlir.geometry import ImageGrid
    from dlir.io.reading import Volume
    from training_runs import SHAPE, SPACING

    model, _ = load_model(run(start(continuing(parent, {"add_stages": 1}))))
    image, grid = Blobs(0, count=30), ImageGrid(SHAPE, SPACING)
    fixed, moving = (Volume(image(bent(voxels(), s)).astype("float32"), grid, "unseen") for s in (-1, 1))
    assert (Registration(model, torch.device("cpu"))(fixed, moving).jacobian > 0).all()
