"""Gives a model that was trained without one its domain: `python Resources/add_domain.py MODEL PRESET DATA [CACHE]`.

The domain is learned from the pairs of the preset under DATA as at the end of a training; the weights stay.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from dlir.model.file import load_model, save_model
from dlir.training.cache import Cache
from dlir.training.config_file import load_config
from dlir.training.data import load_data
from dlir.training.domain import learn_domain


def main(model: str, preset: str, data: str, cache: str | None = None) -> None:
    """model, preset: files. data: the folder that the preset's patterns are relative to."""
    network, header = load_model(Path(model))
    config = load_config(Path(preset))
    with tempfile.TemporaryDirectory() as folder:
        draws = load_data(config, Path(data), Cache(Path(cache or folder), header.spec), _say)
        weights = [source.weight for source in config.sources]
        domain = learn_domain(network, draws, weights, config.seed, torch.device("cpu"), _tell)
    save_model(Path(model), network, header.card, domain)
    if domain is not None:
        print(domain.pairs, "pairs", dict(domain.figures))


def _say(name: str, problem: str) -> None:
    print(f"left out: {name}: {problem}", file=sys.stderr)


def _tell(step: str, fraction: float) -> None:
    print(f"{step} {fraction:.0%}", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
