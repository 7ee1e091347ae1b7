"""The Python packages that registration needs and Slicer lacks: which are missing, and their installation after asking.

Nothing is installed, imported or downloaded before `install` is called and the user has agreed. No restart is needed
afterwards: registration runs in a process of its own.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dlir.errors import DLIRError

REQUIREMENTS_FILE = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"
TORCH = "torch"


class DependencyError(DLIRError):
    """A package could not be installed."""


@dataclass(frozen=True)
class Requirement:
    """A package and the versions of it that serve, such as ">=2.1,<3"."""

    name: str
    versions: str

    def __str__(self) -> str:
        return self.name + self.versions

    def allows(self, version: str) -> bool:
        """Whether this version serves; what follows its numbers, such as "+cpu", does not count."""
        number = _numbers(version)
        return all(
            number >= _numbers(limit) if sign == ">=" else number < _numbers(limit)
            for sign, limit in re.findall(r"(>=|<)\s*([\d.]+)", self.versions)
        )


class Installer(Protocol):
    """Puts packages into Slicer's Python, without asking. Raises whatever goes wrong."""

    def install_torch(self, requirement: Requirement) -> None: ...

    def install(self, requirements: Sequence[Requirement]) -> None: ...


def requirements() -> list[Requirement]:
    """All packages that Slicer does not bring itself, as Resources/requirements.txt names them."""
    lines = REQUIREMENTS_FILE.read_text(encoding="utf-8").splitlines()
    stated = [re.match(r"([\w.-]+)(.*)", line) for line in map(str.strip, lines)]
    return [Requirement(found[1], found[2].strip()) for found in stated if found]


def missing() -> list[Requirement]:
    """The packages that are not installed, or in a version that does not serve. Imports none of them."""
    return [requirement for requirement in requirements() if _problem(requirement) is not None]


def problem() -> str | None:
    """What is missing in one sentence, for a tooltip; None when all is there."""
    found = [_problem(requirement) for requirement in missing()]
    return f"Python packages are missing: {'; '.join(filter(None, found))}." if found else None


def install(requester: str, confirm: Callable[[str], bool], installer: Installer | None = None) -> bool:
    """Install what is missing, after `confirm` has agreed to a text that says what; True when all is there.

    Returns False, and has changed nothing, where `confirm` declined. Must be called from Slicer's main thread.
    requester: who asks, for titles. installer: what installs; by default Slicer's own means. Raises DependencyError
    where an installation failed.
    """
    wanted = missing()
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
    still = problem()
    if still:
        raise DependencyError(
            f"{still.rstrip('.')}, although an installation was tried; see Slicer's log for the reason"
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
        try:
            from slicer.packaging import pip_ensure
        except ImportError:  # Slicer 5.10 and older
            slicer.util.pip_install(names)
            return
        # No question, for that has been asked; no restart, for what is installed runs in another process.
        pip_ensure(
            names,
            prompt_install=False,
            prompt_restart=False,
            requester=self._requester,
            show_progress=slicer.util.mainWindow() is not None,
        )


def _attempt(requirements: Sequence[Requirement], installation: Callable[[], None]) -> None:
    names = ", ".join(map(str, requirements))
    logging.info("Installing %s", names)
    try:
        installation()
    except Exception as error:  # whatever pip, the network or the extension has to say
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DependencyError(
            f"could not install {names}: {reason}; check the network and the log, then try again"
        ) from error


def _problem(requirement: Requirement) -> str | None:
    """What is wrong with a package, in words; None where it serves."""
    spec = importlib.util.find_spec(requirement.name)
    if spec is None or spec.origin is None:  # no origin: a folder that a failed removal has left
        return f"{requirement} is not installed"
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return (
        None if requirement.allows(version) else f"{requirement.name} {version} is installed, {requirement} is needed"
    )


def _question(requester: str, wanted: Sequence[Requirement]) -> str:
    lines = [
        f"{requester} needs Python packages:",
        *(f"    {_problem(requirement)}" for requirement in wanted),
        "",
        "They will be downloaded and installed into Slicer's Python. This takes some minutes"
        + (", and for torch up to several GB of disk space." if any(r.name == TORCH for r in wanted) else "."),
        "",
        "Install them now?",
    ]
    return "\n".join(lines)


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version as numbers that compare: (2, 1) for 2.1, 2.1.0 and 2.1.0a0+cpu."""
    release = re.match(r"[\d.]*", version.strip())
    numbers = [int(part) for part in (release[0] if release else "").split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
