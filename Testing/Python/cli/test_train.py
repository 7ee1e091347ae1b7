"""`dlir train` on two tiny subjects, and what it refuses."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli_runs import refuse, start, stopped_clock, succeed
from dlir.cli import app
from dlir.cli.train import _display
from dlir.errors import how_to_install
from dlir.model.file import load_model, read_header
from training_runs import plain_config, write_subjects


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_subjects(tmp_path / "data", ["first", "second", "held"])
    return tmp_path / "data"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain_config()))
    return path


def _train(data: Path, config: Path, output: Path, *more: str) -> list[str | Path]:
    return ["train", "--data", data, "--config", config, "--output", output, "--device", "cpu", *more]


@pytest.mark.slow
def test_train_then_continue_a_finished_run(data: Path, config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = CliRunner().invoke(
        app, [str(a) for a in _train(data, config, run, "--max-iterations", "2", "--seed", "5")]
    )
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert str(run / "model.safetensors") in result.stdout
    assert "stage 1/2  2/2" in result.stderr  # no terminal: a line for each validation
    assert "validation_similarity" in result.stderr
    assert "waiting" in result.stderr
    assert read_header(run / "model.safetensors").card["training"]["config"]["seed"] == 5
    load_model(run / "model.safetensors")
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((run / "tensorboard").glob("events*"))
    refuse(_train(data, config, run), tmp_path, str(run), "already holds a run", "seed: 5 -> 0", "--resume")
    assert "model.safetensors" in succeed(["train", "--resume", run, "--device", "cpu"])
    rows = json.loads((run / "history.json").read_text())
    assert [row["phase"] for row in rows] == [0, 1]


@pytest.mark.parametrize("terminal", [True, False])
def test_that_the_domain_is_learned_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], terminal: bool
) -> None:
    """What the trainer says while it learns the domain, which has no figures."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with _display() as progress:
        progress("stage 1/1", 2, 2, {"similarity": 0.9})
        for done in (0, 50, 99):
            progress("domain", done, 100, {})
    said = capfd.readouterr().err
    if terminal:
        assert "domain" in said
    else:
        (line,) = said.splitlines()
        assert line.endswith("domain: learning from its own pairs what the model is for")


def test_between_validations_a_log_has_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = stopped_clock(monkeypatch)
    with _display() as progress:
        for done in range(1, 11):  # ten seconds each
            now.seconds += 10
            progress("images", done, 10, {})
        progress("stage 1/1", 5, 5, {"similarity": 0.9, "seconds": 2.0})
    said = [line[10:] for line in capfd.readouterr().err.splitlines()]
    assert said == ["images  3/10", "images  6/10", "images  9/10", "stage 1/1  5/5  similarity 0.9  seconds 2"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM"])
def test_an_interrupt_leaves_a_checkpoint_and_says_how_to_go_on(data: Path, tmp_path: Path, kind: str) -> None:
    config = tmp_path / "long.yaml"
    stages = [{"iterations": 100000, "batch_size": 1}] * 2
    config.write_text(yaml.safe_dump(plain_config(training=stages, validation_every=2)))
    process = start(_train(data, config, tmp_path / "run"))
    assert process.stderr is not None
    for line in process.stderr:
        if "2/100000" in line:
            break
    process.send_signal(getattr(signal, kind))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith(f"interrupted; continue the run with --resume {tmp_path / 'run'}\n")
    assert "Traceback" not in errors
    assert (tmp_path / "run" / "last.pt").is_file()
    # Its options are those of the run; only the same configuration may be named again.
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(plain_config(training=stages, validation_every=3)))
    resume = ["train", "--resume", tmp_path / "run", "--device", "cpu"]
    refuse([*resume, "--config", other], tmp_path, "validation_every: 2 -> 3", "leave out --config")
    refuse([*resume, "--data", data, "--seed", "1"], tmp_path, "--resume takes everything", "--data, --seed")


def test_options_that_do_not_fit(data: Path, config: Path, tmp_path: Path) -> None:
    base = ["train", "--data", data, "--output", tmp_path / "run"]
    refuse(base, tmp_path, "either --config or --preset", "cardiac-cine")
    refuse([*base, "--config", config, "--preset", "cardiac-cine"], tmp_path, "either --config or --preset")
    refuse([*base, "--preset", "brain"], tmp_path, "no preset 'brain'", "cardiac-cine")
    refuse([*base, "--preset", "hippocamus"], tmp_path, "did you mean 'hippocampus'?")
    refuse(["train", "--config", config], tmp_path, "give --data and --output", "--resume RUN")
    refuse(["train", "--resume", tmp_path / "none"], tmp_path, "holds no run to continue", "run.json")


def test_configurations_and_data_that_cannot_be_used(data: Path, config: Path, tmp_path: Path) -> None:
    refuse(_train(data, tmp_path / "none.yaml", tmp_path / "run"), tmp_path, "none.yaml", "check the path")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(plain_config(seed="lots")))
    refuse(_train(data, wrong, tmp_path / "run"), tmp_path, "wrong.yaml", "seed")


@pytest.mark.parametrize("kind", ["nothing there", "empty", "one subject", "of another run"])
def test_data_and_folders_that_cannot_be_used(config: Path, tmp_path: Path, kind: str) -> None:
    folder, run = tmp_path / "images", tmp_path / "run"
    if kind != "nothing there":
        folder.mkdir()
    if kind == "one subject":
        write_subjects(folder, ["lonely"])
        inter = {"sources": [{"files": ["*/*_frame01.nii.gz"], "pairs": "inter"}]}
        whole = {"augmentation": {"rotate90": False}}
        config.write_text(yaml.safe_dump(plain_config(**inter, **whole)))
    if kind == "of another run":
        run.mkdir()
        (run / "history.json").write_text("[]")
    result = CliRunner().invoke(app, [str(a) for a in _train(folder, config, run)])
    assert result.exit_code == 2
    expected = {
        "nothing there": "error: no file matches",
        "empty": "error: no file matches",
        "one subject": "error: inter pairs need two subjects, and 1 of",
        "of another run": f"error: '{run}' already holds a run",
    }
    assert result.stderr.splitlines()[-1].startswith(expected[kind])
    # Whoever corrects the command may use the folder.
    assert not (run / "run.json").exists()


# The import system without one package.
WITHOUT = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("missing", ["monai", "yaml"])
def test_without_the_training_packages(data: Path, config: Path, tmp_path: Path, missing: str) -> None:
    process = start(_train(data, config, tmp_path / "run"), WITHOUT.format(missing=missing))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors == f"error: training needs '{missing}', which is not installed: {how_to_install('train')}\n"
