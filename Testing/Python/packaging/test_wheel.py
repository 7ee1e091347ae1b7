"""What is installed elsewhere: the wheel in an empty environment outside of the checkout, the citation, the image."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import dlir
from cmake_lists import ROOT

RESOURCES = ("Models", "Presets", "SampleData")
SAMPLE = """
import dlir
result = dlir.register(**dlir.sample_pair())
print(dlir.__file__, result.verdict.level, result.warped.GetSize(), *result.warped_label.GetSize())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make wheel` builds it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.iterdir()
    return found


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and a folder to work in, neither of them near the checkout."""

    programs: Path
    folder: Path

    def run(self, *command: str) -> str:
        """What a program of the environment prints."""
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        typed = [str(self.programs / command[0]), *command[1:]]
        done = subprocess.run(
            typed, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """With the packages that DLIR needs as they are here, so that no index is asked."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False, symlinks=os.name != "nt")
    base = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    paths = {name: Path(sysconfig.get_path(name, "venv", base)) for name in ("purelib", "scripts")}
    (paths["purelib"] / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = str(next(paths["scripts"].glob("python*")))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    (folder / "work").mkdir()
    return Installed(paths["scripts"], folder / "work")


def test_the_wheel_has_what_comes_with_dlir_and_no_more(wheel: Path) -> None:
    assert wheel.name == f"dlir-{dlir.__version__}-py3-none-any.whl"
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {
        path.relative_to(ROOT / "DLIRRegistration").as_posix()
        for path in (ROOT / "DLIRRegistration" / "dlir").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    resources = {
        f"dlir/resources/{kind}/{path.name}"
        for kind in RESOURCES
        for path in (ROOT / "Resources" / kind).iterdir()
        if path.suffix != ".py"
    }
    assert names == code | resources
    assert "dlir/py.typed" in names
    assert wheel.stat().st_size < 20_000_000


@pytest.mark.slow
def test_the_wheel_works_where_there_is_no_checkout(installed: Installed) -> None:
    assert installed.run("dlir", "--version").strip() == dlir.__version__
    at, level, *_ = installed.run("python", "-c", SAMPLE).split()
    assert Path(at).is_relative_to(installed.folder.parent)
    assert level == "good"
    assert "demo-output" in installed.run("dlir", "demo", "--output", "demo-output")
    report = json.loads((installed.folder / "demo-output" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"]["level"] == "good"
    assert set(report["outputs"].values()) == {path.name for path in (installed.folder / "demo-output").iterdir()}
    listed = installed.run("dlir", "models")
    assert all(model.stem in listed for model in (ROOT / "Resources" / "Models").glob("*.safetensors"))
    assert "hippocampus" in installed.run("python", "-c", "import dlir.training.config_file as c; print(c.presets())")
    for command in ("train", "evaluate"):
        assert "Usage" in installed.run("dlir", command, "--help")


@pytest.mark.slow
def test_the_command_works_where_there_is_no_checkout(installed: Installed) -> None:
    pair = json.loads(installed.run("python", "-c", "import dlir, json; print(json.dumps(dlir.sample_pair()))"))
    assert all(Path(file).is_relative_to(installed.folder.parent) for file in pair.values())
    options = [text for role, file in pair.items() for text in (f"--{role.replace('_', '-')}", file)]
    report = json.loads(installed.run("dlir", "register", *options, "--output", "result", "--json"))
    assert report["model"]["name"] == "cardiac-cine"
    assert {path.name for path in (installed.folder / "result").iterdir()} == set(report["outputs"].values())


@pytest.mark.slow
def test_cohorts_work_where_there_is_no_checkout(installed: Installed) -> None:
    pair = json.loads(installed.run("python", "-c", "import dlir, json; print(json.dumps(dlir.sample_pair()))"))
    table = "\n".join(",".join(row) for row in (pair.keys(), pair.values()))
    (installed.folder / "pairs.csv").write_text(table, encoding="utf-8")
    installed.run("dlir", "batch", "pairs.csv", "--output", "cohort", "--jobs", "1")
    (line,) = csv.DictReader((installed.folder / "cohort" / "summary.csv").open(encoding="utf-8", newline=""))
    assert (line["state"], line["verdict"]) == ("done", "good")
    cine = Path(pair["fixed"]).with_name("cine.seq.nrrd")
    told = json.loads(installed.run("dlir", "cine", str(cine), "--output", "cine", "--no-cycle", "--json"))
    assert {path.name for path in (installed.folder / "cine").iterdir()} == set(told["outputs"].values())


# -- beside the wheel ---------------------------------------------------------------------------------


def test_the_citation_has_the_version_and_the_article_of_the_readme() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == dlir.__version__
    assert cited["license"] == re.search(r'^license = "(.+)"', project(), re.MULTILINE)[1]  # type: ignore[index]
    article = cited["preferred-citation"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert article["title"] in readme
    assert f"{article['journal']} {article['volume']} ({article['year']}) {article['start']}-{article['end']}" in readme
    assert all(author["family-names"] in readme for author in article["authors"])


def project() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_image_gets_all_that_the_wheel_is_made_of_and_runs_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    assert all((ROOT / path).exists() for path in kept)
    needed = re.search(r"^only-include = \[(.+)\]", project(), re.MULTILINE)
    assert needed is not None
    assert set(re.findall(r'"(.+?)"', needed[1])) <= kept
    assert {"pyproject.toml", "README.md", "LICENSE"} <= kept
    assert [line for line in lines if line.startswith(("USER", "ENTRYPOINT"))] == ["USER 1000", 'ENTRYPOINT ["dlir"]']
    assert not [line for line in lines if "://" in line]  # which index has torch is said where it is built
