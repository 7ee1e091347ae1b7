"""What is missing is said, and installed after asking and in no other case."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cli_runs import SOURCE
from DLIRRegistrationLib import dependencies
from DLIRRegistrationLib.dependencies import (
    DependencyError,
    Requirement,
    install,
    missing,
    problem,
    requirements,
    training_requirements,
)


class Packages:
    """A Python with some packages, by name and version; an installer adds to it."""

    def __init__(self, **versions: str) -> None:
        self.versions = dict(versions)
        self.installed: list[str] = []
        self.gives = {"torch": "2.5.1+cu124", "safetensors": "0.5.0", "typer": "0.15.1", "rich": "13.9.4"}

    def find_spec(self, name: str) -> object:
        names = [Requirement(package, "").module for package in self.versions]
        return SimpleNamespace(origin=f"{name}/__init__.py") if name in names else None

    def version(self, name: str) -> str:
        if name not in self.versions:
            raise metadata.PackageNotFoundError(name)
        return self.versions[name]

    def install_torch(self, requirement: Requirement) -> None:
        self.installed.append(f"{requirement} by its own way")
        self.versions[requirement.name] = self.gives[requirement.name]

    def install(self, requirements: Sequence[Requirement]) -> None:
        for requirement in requirements:
            self.installed.append(str(requirement))
            self.versions[requirement.name] = self.gives[requirement.name]


class Answer:
    """A user who says yes or no, and what was asked."""

    def __init__(self, yes: bool) -> None:
        self.yes = yes
        self.asked: list[str] = []

    def __call__(self, message: str) -> bool:
        self.asked.append(message)
        return self.yes


def use(packages: Packages, monkeypatch: pytest.MonkeyPatch) -> Packages:
    monkeypatch.setattr(dependencies.importlib.util, "find_spec", packages.find_spec)
    monkeypatch.setattr("importlib.metadata.version", packages.version)
    return packages


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Packages:
    """Slicer as it comes."""
    return use(Packages(rich="13.7.0"), monkeypatch)


# -- what is missing ----------------------------------------------------------------------------------


def test_the_list_is_what_the_package_needs_less_what_slicer_and_torch_bring() -> None:
    project = (SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8")
    stated = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert stated
    needed = re.findall(r'"(.+)"', stated[1])
    assert len(needed) > 4
    assert [str(r) for r in requirements()] == [
        n for n in needed if not n.startswith(("numpy", "SimpleITK", "filelock"))
    ]


def test_the_list_for_training_is_that_of_the_package() -> None:
    project = (SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8")
    stated = re.search(r"^train = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert stated
    assert [str(r) for r in training_requirements()] == re.findall(r'"(.+)"', stated[1])


def test_every_package_is_looked_for_by_the_name_it_is_imported_by() -> None:
    assert problem(training_requirements()) is None, "the tests have all of them"
    modules = [requirement.module for requirement in training_requirements()]
    assert [importlib.util.find_spec(module) for module in modules if module in ("yaml", "lightning_fabric")] != []
    assert not [module for module in modules if not module.isidentifier()]
    for requirement in training_requirements():
        assert requirement.name.lower() in [n.lower() for n in metadata.packages_distributions()[requirement.module]]


def test_what_is_imported_for_training_is_on_a_list() -> None:
    listed = {requirement.module for requirement in (*requirements(), *training_requirements())}
    imported: set[str] = set()
    for file in (SOURCE / "dlir" / "training").glob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            found = re.match(r"\s*(?:from|import) (\w+)", line)
            imported |= {found[1]} if found else set()
    foreign = imported - set(sys.stdlib_module_names) - {"dlir", "numpy", "SimpleITK"}
    assert {"monai", "pydantic", "matplotlib"} <= foreign
    assert foreign <= listed


def test_missing(bare: Packages) -> None:
    assert [requirement.name for requirement in missing()] == ["safetensors", "torch", "typer"]
    assert problem() == "Slicer lacks Python packages that DLIR needs: safetensors, torch, typer."
    bare.versions |= bare.gives
    assert missing() == []
    assert problem() is None


@pytest.mark.parametrize(
    ("version", "serves"),
    [
        ("2.1", True),
        ("2.1.0", True),
        ("2.10.0+cu128", True),
        ("2.13.0a0+git1", True),
        ("2.1.0a0+32f93b1", True),
        ("2.0.1", False),
        ("1.13.1", False),
        ("3", False),
        ("3.0.0", False),
        ("3.0.0a0", False),
        ("unknown", False),
    ],
)
def test_versions(version: str, serves: bool, bare: Packages) -> None:
    bare.versions |= {**bare.gives, "torch": version}
    assert ([requirement.name for requirement in missing()] == []) is serves
    wanted = f"torch (2.1 or newer, before 3) in place of {version}"
    assert serves or problem() == f"Slicer lacks Python packages that DLIR needs: {wanted}."


def test_what_a_failed_removal_left_is_not_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_over").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(dependencies, "requirements", lambda: [Requirement("left_over", ">=1")])
    assert [requirement.name for requirement in missing()] == ["left_over"]


def test_a_package_without_metadata_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "by_hand.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(dependencies, "requirements", lambda: [Requirement("by_hand", ">=1")])
    assert missing() == []


def test_looking_imports_nothing() -> None:
    code = (
        "import sys; from DLIRRegistrationLib import dependencies as d; d.missing(); d.problem(); "
        "sys.exit(bool({'torch', 'SimpleITK', 'safetensors', 'typer', 'rich', 'slicer', 'qt'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


# -- installing ---------------------------------------------------------------------------------------


def test_installs_after_a_yes(bare: Packages) -> None:
    answer = Answer(yes=True)
    assert install("DLIR", answer, bare)
    assert bare.installed == ["torch>=2.1,<3 by its own way", "safetensors>=0.4", "typer>=0.12"]
    assert missing() == []
    (question,) = answer.asked
    for word in (
        "DLIR needs",
        "torch (2.1 or newer, before 3)",
        "safetensors (0.4 or newer)",
        "typer",
        "GB",
        "Slicer's Python",
    ):
        assert word in question
    assert "rich" not in question
    for name in ("numpy", "SimpleITK"):
        assert name not in question


def test_a_no_changes_nothing(bare: Packages) -> None:
    before = dict(bare.versions)
    assert not install("DLIR", Answer(yes=False), bare)
    assert bare.installed == []
    assert bare.versions == before


def test_nothing_is_asked_where_nothing_is_missing(bare: Packages) -> None:
    bare.versions |= bare.gives
    answer = Answer(yes=False)
    assert install("DLIR", answer, bare)
    assert answer.asked == []


def test_an_old_torch_is_named_in_the_question(bare: Packages) -> None:
    bare.versions |= {**bare.gives, "torch": "1.13.1"}
    answer = Answer(yes=True)
    assert install("DLIR", answer, bare)
    assert "torch (2.1 or newer, before 3) in place of 1.13.1" in answer.asked[0]
    assert bare.versions["torch"] == "2.5.1+cu124"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "Command '['pip', 'install\n--constraint', '/x', 'torch>=2.1,<3']' returned non-zero exit status 1",
            "internet",
        ),
        ("OSError: [Errno 28] No space left on device: '/x'", "free some GB"),
        ("ERROR: No matching distribution found for torch<3,>=2.1", "newer Slicer"),
        ("PermissionError: [Errno 13] Permission denied: '/opt'", "a folder of your own"),
    ],
)
def test_a_failure_is_told_in_words_and_pips_are_details(
    bare: Packages, monkeypatch: pytest.MonkeyPatch, said: str, advice: str
) -> None:
    def fail(requirement: Requirement) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(bare, "install_torch", fail)
    with pytest.raises(DependencyError, match="torch could not be installed") as caught:
        install("DLIR", Answer(yes=True), bare)
    assert advice in str(caught.value)
    assert not [word for word in ("\n", "pip", "Errno", ">=", "status") if word in str(caught.value)]
    assert caught.value.details == said
    assert bare.installed == [], "without torch the rest is of no use"


def test_an_installation_that_did_nothing_is_told(bare: Packages, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is in Slicer's testing mode."""
    monkeypatch.setattr(bare, "install", lambda requirements: None)
    with pytest.raises(DependencyError, match="needs: safetensors, typer, although"):
        install("DLIR", Answer(yes=True), bare)


def test_what_was_installed_can_be_imported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python remembers what a folder held; that must be forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(dependencies, "requirements", lambda: [Requirement("brand_new_package", ">=1")])
    assert importlib.util.find_spec("brand_new_package") is None
    stamp = tmp_path.stat()

    class Pip(Packages):
        def install(self, requirements: Sequence[Requirement]) -> None:
            (tmp_path / "brand_new_package.py").touch()
            os.utime(tmp_path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as on a disk with coarse times

    assert install("DLIR", Answer(yes=True), Pip())


# -- with Slicer's means ------------------------------------------------------------------------------


class FakeSlicer:
    """The functions of Slicer that install, as Slicer 5.11 and newer have them; they note their calls."""

    def __init__(self, packages: Packages, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.held: list[list[str]] = []
        self.packages = packages
        slicer, packaging = ModuleType("slicer"), ModuleType("slicer.packaging")
        slicer.util = SimpleNamespace(pip_install=self.pip_install, mainWindow=lambda: None)  # type: ignore[attr-defined]
        packaging.pip_ensure = self.pip_ensure  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "slicer", slicer)
        monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)

    def pip_ensure(
        self,
        requirements: str | list[str],
        constraints: str | Path | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> None:
        assert not prompt_install, "the user has been asked"
        assert not show_progress, "there is no main window"
        self.calls.append(("pip_ensure", requirements))
        self._hold(constraints)
        self._put(requirements)

    def pip_install(self, requirements: str | list[str]) -> None:
        options = []
        if requirements[0] == "--constraint":
            options, requirements = requirements[:2], requirements[2:]
        self.calls.append(("pip_install", requirements))
        self._hold(options[1] if options else None)
        self._put(requirements)

    def _hold(self, constraints: str | Path | None) -> None:
        self.held.append(Path(constraints).read_text(encoding="utf-8").split() if constraints else [])

    def _put(self, requirements: str | list[str]) -> None:
        for text in requirements:
            name = text.partition(">")[0]
            self.packages.versions[name] = self.packages.gives.get(name, text.partition("=")[2].partition(",")[0])


@pytest.fixture
def slicer(bare: Packages, monkeypatch: pytest.MonkeyPatch) -> FakeSlicer:
    return FakeSlicer(bare, monkeypatch)


def give_pytorch_extension(slicer: FakeSlicer, monkeypatch: pytest.MonkeyPatch) -> None:
    class PyTorchUtilsLogic:
        def installTorch(  # noqa: N802
            self,
            askConfirmation: bool = False,
            forceComputationBackend: str | None = None,
            torchVersionRequirement: str | None = None,
            torchvisionVersionRequirement: str | None = None,
        ) -> object:
            assert not askConfirmation, "the user has been asked"
            slicer.calls.append(("installTorch", torchVersionRequirement))
            slicer.packages.versions["torch"] = "2.5.1+cu124"
            return object()

    module = ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic  # type: ignore[attr-defined]
    slicer.packages.versions["PyTorchUtils"] = ""
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)


def test_torch_comes_through_the_pytorch_extension(slicer: FakeSlicer, monkeypatch: pytest.MonkeyPatch) -> None:
    give_pytorch_extension(slicer, monkeypatch)
    assert install("DLIR", Answer(yes=True))
    assert slicer.calls == [("installTorch", ">=2.1,<3"), ("pip_ensure", ["safetensors>=0.4", "typer>=0.12"])]


def test_without_that_extension_by_pip(slicer: FakeSlicer) -> None:
    assert install("DLIR", Answer(yes=True))
    assert slicer.calls == [("pip_ensure", ["torch>=2.1,<3"]), ("pip_ensure", ["safetensors>=0.4", "typer>=0.12"])]


def test_in_an_older_slicer(slicer: FakeSlicer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    assert install("DLIR", Answer(yes=True))
    assert slicer.calls == [("pip_install", ["torch>=2.1,<3"]), ("pip_install", ["safetensors>=0.4", "typer>=0.12"])]


@pytest.mark.parametrize("older", [False, True], ids=["", "in an older Slicer"])
def test_training_leaves_what_is_there_as_it_is(
    slicer: FakeSlicer, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    if older:
        monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    slicer.packages.versions |= {"numpy": "2.1.3", "SimpleITK": "2.5.0.dev7+g1a2b", **slicer.packages.gives}
    slicer.packages.versions["pyyaml"] = "6.0.2"
    before = dict(slicer.packages.versions)
    answer = Answer(yes=True)
    assert install("DLIR", answer, needed=training_requirements())
    assert [name for name in ("numpy", "SimpleITK", "torch>", "pyyaml", "GB") if name in answer.asked[0]] == []
    ((_, asked_for),) = slicer.calls
    assert [text.partition(">")[0] for text in asked_for] == [
        requirement.name for requirement in training_requirements() if requirement.name != "pyyaml"
    ]
    assert slicer.held == [["numpy==2.1.3", "SimpleITK==2.5.0.dev7+g1a2b", "torch==2.5.1+cu124"]]
    assert {name: slicer.packages.versions[name] for name in before} == before
    assert install("DLIR", Answer(yes=False), needed=training_requirements()), "now all is there"


def test_a_torch_that_is_to_be_replaced_is_not_held(slicer: FakeSlicer) -> None:
    slicer.packages.versions |= {"numpy": "2.1.3", "torch": "1.13.1"}
    assert install("DLIR", Answer(yes=True))
    assert slicer.held == [["numpy==2.1.3"], ["numpy==2.1.3", "torch==2.5.1+cu124"]]
