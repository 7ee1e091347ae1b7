"""Small runs, for every test of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from dlir.training.cache import Cache
from dlir.training.config import TrainingConfig
from dlir.training.data import load_data
from dlir.training.engine import make_fabric
from dlir.training.run_folder import RunFolder, RunOptions
from dlir.training.trainer import Trainer
from training_runs import make_config, write_subjects

Start = Callable[..., Trainer]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects to train with and one held out; their labels cannot be read by anything."""
    root = tmp_path_factory.mktemp("images")
    write_subjects(root, ["one", "two", "three", "held"])
    return root


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the prepared images of all these runs are kept."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def make_trainer(images: Path, shared_cache: Path) -> Callable[[TrainingConfig, Path], Trainer]:
    """Makes a trainer of a new run, or of the run that the folder holds already."""

    def make(config: TrainingConfig, folder: Path) -> Trainer:
        run = RunFolder(folder)
        if not run.holds_run:
            run.begin(RunOptions(config, images, shared_cache))
        draws = load_data(config, images, Cache(shared_cache, config.spec), lambda what, why: None)
        return Trainer(config, draws, run, make_fabric("cpu"))

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def start(make_trainer: Callable[[TrainingConfig, Path], Trainer], tmp_path: Path, one_thread: None) -> Start:
    """Makes a trainer: start(config, folder)."""
    return lambda config=None, folder="run": make_trainer(config or make_config(), tmp_path / folder)
