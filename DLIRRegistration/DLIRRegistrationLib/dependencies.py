"""The Python packages that DLIR needs and Slicer lacks: which are missing, and their installation after asking.

There are two sets: what registration needs, and what training needs besides. Nothing is installed, imported or
downloaded before `install` is called and the user has agreed. No restart is needed afterwards: registration and
training run in processes of their own.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dlir.errors import DLIRError

_RESOURCES = Path(__file__).resolve().parents[1] / "Resources"
REQUIREMENTS_FILE = _RESOURCES / "requirements.txt"
TRAINING_FILE = _RESOURCES / "requirements-train.txt"
TORCH = "torch"

# Packages that are imported by another name than they are installed by.
_MODULES = {"pyyaml": "yaml"}
# How the bounds of versions read.
_BOUNDS = {">=": "{} or newer", "<": "before {}", "==": "exactly {}"}
# By what a failed installation has said, in small letters.
_ADVICE = {
    ("no space left", "errno 28", "disk full"): "the disk is full: free some GB, then try again",
    ("permission denied", "errno 13", "access is denied"): (
        "Slicer's folder cannot be written: install Slicer in a folder of your own, or ask whoever looks after it"
    ),
    ("no matching distribution", "requires-python", "requires a different python"): (
        "there is none for this version of Slicer: use a newer Slicer"
    ),
}
# What pip must leave as it is: Slicer's own, and the build of torch that fits the computer.
_KEPT = ("numpy", "SimpleITK", TORCH, "torchvision")


class DependencyError(DLIRError):
    """A package could not be installed. details: what pip had to say, for those who look after computers."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Requirement:
    """A package and the versions of it that serve, such as ">=2.1,<3"."""

    name: str
    versions: str

    def __str__(self) -> str:
        return self.name + self.versions

    @property
    def in_words(self) -> str:
        """For people: "torch (2.1 or newer, before 3)"."""
        stated = [re.match(r"([<>=!~]+)\s*(.*)", clause.strip()) for clause in self.versions.split(",")]
        said = [_BOUNDS.get(found[1], found[1] + " {}").format(found[2]) for found in stated if found]
        return f"{self.name} ({', '.join(said)})" if said else self.name

    @property
    def module(self) -> str:
        """The name by which it is imported."""
        return _MODULES.get(self.name, self.name.replace("-", "_"))

    def allows(self, version: str) -> bool:
        """Whether this version serves; what follows its numbers, such as "+cpu", does not count."""
        from packaging.specifiers import SpecifierSet  # Slicer brings it
        from packaging.version import InvalidVersion, Version

        try:
            return Version(Version(version).base_version) in SpecifierSet(self.versions)
        except InvalidVersion:
            return False


class Installer(Protocol):
    """Puts packages into Slicer's Python, without asking. Raises whatever goes wrong."""

    def install_torch(self, requirement: Requirement) -> None: ...

    def install(self, requirements: Sequence[Requirement]) -> None: ...


def requirements() -> list[Requirement]:
    """What registration needs and Slicer does not bring itself, as Resources/requirements.txt names it."""
    return _read(REQUIREMENTS_FILE)


def training_requirements() -> list[Requirement]:
    """What training needs besides, as Resources/requirements-train.txt names it."""
    return _read(TRAINING_FILE)


def missing(needed: Sequence[Requirement] | None = None) -> list[Requirement]:
    """The packages that are not installed, or in a version that does not serve. Imports none of them.

    needed: by default what registration needs.
    """
    needed = requirements() if needed is None else needed
    return [requirement for requirement in needed if _problem(requirement) is not None]


def problem(needed: Sequence[Requirement] | None = None) -> str | None:
    """What is missing in one sentence, for a tooltip; None when all is there. needed: as for `missing`."""
    found = [_problem(requirement) for requirement in missing(needed)]
    return f"Slicer lacks Python packages that DLIR needs: {', '.join(filter(None, found))}." if found else None


def install(
    requester: str,
    confirm: Callable[[str], bool],
    installer: Installer | None = None,
    needed: Sequence[Requirement] | None = None,
) -> bool:
    """Install what is missing, after `confirm` has agreed to a text that says what; True when all is there.

    Returns False, and has changed nothing, where `confirm` declined. Must be called from Slicer's main thread.
    requester: who asks, for titles. installer: what installs; by default Slicer's own means, which leave numpy,
    SimpleITK and a torch that serves as they are. needed: as for `missing`. Raises DependencyError where an
    installation failed.
    """
    wanted = missing(needed)
    if not wanted:
        return True
    if not confirm(_question(requester, wanted)):
        return False
    installer = installer or SlicerInstaller(requester)
    torch = [requirement for requirement in wanted if requirement.name == TORCH]
    others = [requirement for requirement in wanted if requirement.name != TORCH]
    if torch:
        _attempt(torch, lambda: installer.install_torch(torch[0]))
    if others:
        _attempt(others, lambda: installer.install(others))
    importlib.invalidate_caches()
    still = problem(needed)
    if still:
        raise DependencyError(
            f"{still.rstrip('.')}, although an installation was tried; start Slicer again, and try once more"
        )
    return True


class SlicerInstaller:
    """Installs with Slicer's means: torch through the PyTorch extension where that is there, the rest by pip."""

    def __init__(self, requester: str) -> None:
        self._requester = requester

    def install_torch(self, requirement: Requirement) -> None:
        if importlib.util.find_spec("PyTorchUtils") is None:
            logging.info("The PyTorch extension is not installed; torch is taken as pip has it.")
            self.install([requirement])
            return
        import PyTorchUtils

        PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=False, torchVersionRequirement=requirement.versions
        )

    def install(self, requirements: Sequence[Requirement]) -> None:
        import slicer

        names = [str(requirement) for requirement in requirements]
        with _constraints(requirements) as constraints:
            try:
                from slicer.packaging import pip_ensure
            except ImportError:  # Slicer 5.10 and older
                slicer.util.pip_install([*(["--constraint", str(constraints)] if constraints else []), *names])
                return
            # No question, for that has been asked; no restart, for what is installed runs in another process.
            pip_ensure(
                names,
                constraints=constraints,
                prompt_install=False,
                prompt_restart=False,
                requester=self._requester,
                show_progress=slicer.util.mainWindow() is not None,
            )


@contextmanager
def _constraints(requirements: Sequence[Requirement]) -> Iterator[Path | None]:
    """A file that holds pip to the present versions of what must stay, and is not to be installed itself."""
    wanted = {requirement.name for requirement in requirements}
    kept = [f"{name}=={version}" for name in _KEPT if name not in wanted and (version := _version(name))]
    if not kept:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "constraints.txt")
        path.write_text("\n".join(kept) + "\n", encoding="utf-8")
        yield path


def _attempt(requirements: Sequence[Requirement], installation: Callable[[], None]) -> None:
    logging.info("Installing %s", ", ".join(map(str, requirements)))
    try:
        installation()
    except Exception as error:  # whatever pip, the network or the extension has to say
        names = ", ".join(requirement.name for requirement in requirements)
        reason = str(error).strip() or type(error).__name__
        raise DependencyError(f"{names} could not be installed; {_advice(reason)}", reason) from error


def _advice(reason: str) -> str:
    """What most often helps, whatever the words of the reason."""
    told = reason.casefold()
    for signs, advice in _ADVICE.items():
        if any(sign in told for sign in signs):
            return advice
    return "check that this computer reaches the internet, and ask whoever looks after it about a proxy, then try again"


def _problem(requirement: Requirement) -> str | None:
    """What is wrong with a package, in words; None where it serves."""
    spec = importlib.util.find_spec(requirement.module)
    if spec is None or spec.origin is None:  # no origin: a folder that a failed removal has left
        return requirement.name
    version = _version(requirement.name)
    if version is None or requirement.allows(version):
        return None
    return f"{requirement.in_words} in place of {version}"


def _wanted(requirement: Requirement) -> str:
    """For the question: with its versions in any case."""
    found = _problem(requirement)
    return requirement.in_words if found in (None, requirement.name) else found


def _version(name: str) -> str | None:
    """Of a package; None where it is not installed, or came without saying so."""
    from importlib.metadata import PackageNotFoundError, version  # an eighth of what reading the module's files takes

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _read(file: Path) -> list[Requirement]:
    lines = file.read_text(encoding="utf-8").splitlines()
    stated = [re.match(r"([\w.-]+)(.*)", line) for line in map(str.strip, lines)]
    return [Requirement(found[1], found[2].strip()) for found in stated if found]


def _question(requester: str, wanted: Sequence[Requirement]) -> str:
    lines = [
        f"{requester} needs Python packages:",
        *(f"    {_wanted(requirement)}" for requirement in wanted),
        "",
        "They will be downloaded and installed into Slicer's Python. This takes some minutes"
        + (", and for torch up to several GB of disk space." if any(r.name == TORCH for r in wanted) else "."),
        "",
        "Install them now?",
    ]
    return "\n".join(lines)
