"""What a training leaves in the model file of what the model was made for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from cli_runs import SOURCE
from dlir.io.reading import Volume, read_image
from dlir.model.card import seen_images
from dlir.model.domain import Domain
from dlir.model.file import load_model, read_header, save_model
from dlir.model.multistage import MultiStageModel
from dlir.registration.judging.assessment import assess
from dlir.registration.oneshot import Registration
from dlir.training.cache import Cache
from dlir.training.config_file import load_config
from dlir.training.data import load_data
from dlir.training.domain import learn_domain
from dlir.transforms.spatial import CompositeTransform
from trainer_runs import Start, run
from training_runs import SHAPE, make_config, plain_config, write_subjects


def short(**changes: Any) -> Any:
    stage = {"iterations": 2, "batch_size": 2, "learning_rate": 0.01, "alpha": 0.01}
    return make_config(training=[stage] * 2, **changes)


def domain_of(folder: Path, subjects: int) -> tuple[Domain | None, Registration, Path]:
    """Of an untrained model, from two images of so many subjects."""
    root = folder / "data"
    write_subjects(root, [f"s{k:02d}" for k in range(subjects)])
    config = short()
    torch.manual_seed(0)
    model = MultiStageModel(config.spec).requires_grad_(False)
    draws = load_data(config, root, Cache(folder / "cache", config.spec), lambda name, problem: None)
    weights = [source.weight for source in config.sources]
    domain = learn_domain(model, draws, weights, config.seed, torch.device("cpu"))
    return domain, Registration(model, torch.device("cpu")), root


def test_an_older_model_is_given_its_domain_and_the_names_of_its_images(tmp_path: Path) -> None:
    write_subjects(tmp_path / "data", [f"s{k:02d}" for k in range(10)])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain_config()))
    file = tmp_path / "old.safetensors"
    save_model(file, MultiStageModel(load_config(tmp_path / "config.yaml").spec), {"training": {"hours": 1}})
    before = load_model(file)[0].state_dict()
    script = SOURCE.parent / "Resources" / "amend_model.py"
    for what in ("images", "domain"):
        command = [sys.executable, script, what, file, tmp_path / "config.yaml", tmp_path / "data"]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True)
    model, header = load_model(file)
    assert all(torch.equal(before[name], weights) for name, weights in model.state_dict().items())
    assert header.domain is not None
    assert header.card["training"]["images"] == len(seen_images(header.card) or {}) == 20
    assert header.card["training"]["hours"] == 1


def test_it_knows_its_own_and_not_others(tmp_path: Path) -> None:
    domain, registration, root = domain_of(tmp_path, 10)
    assert domain is not None
    assert set(domain.figures) == {"inverse_consistency_mm", "displacement_mm", "local_after"}
    assert len(domain.stages) == len(registration.spec.stages)
    own = [
        read_image(str(path), "image")
        for path in sorted(path for path in root.rglob("s09_frame*.nii.gz") if "gt" not in path.name)
    ]
    assert len(own) == 2
    stripes = np.where(np.indices(SHAPE).sum(0) % 4 < 2, 0, 1).astype(np.float32)
    foreign = [Volume(stripes, own[0].grid, "stripes")] * 2
    start = CompositeTransform(())
    near, far = (assess(registration, registration.predict(*pair, start), domain) for pair in (own, foreign))
    assert near.images_distance is not None
    assert far.images_distance is not None
    assert near.images_distance < 1.5 < far.images_distance


def test_the_same_pairs_give_the_same(tmp_path: Path) -> None:
    first, second = (domain_of(tmp_path / name, 9)[0] for name in "ab")
    assert first is not None
    assert second is not None
    assert first.to_dict() == second.to_dict()


def test_too_few_pairs_say_nothing(tmp_path: Path) -> None:
    assert domain_of(tmp_path, 2)[0] is None


def test_the_finished_model_carries_it(start: Start, tmp_path: Path, images: Path) -> None:
    trainer = start(short())
    told: list[str] = []
    path = run(trainer, lambda name, *rest: told.append(name))
    header = read_header(path)
    assert (header.domain is not None) == (len({drawn.name for drawn in _all_pairs(trainer)}) >= 8)
    assert ("domain" in told) == (header.domain is not None)
    load_model(path)


def _all_pairs(trainer: Any) -> list[Any]:
    generator = np.random.default_rng(0)
    return [draw.draw(generator) for draw in trainer.draws for _ in range(200)] + [
        drawn for draw in trainer.draws for drawn in draw.held_out()
    ]
