"""The lists of DLIRRegistration/CMakeLists.txt: what they say, what the tree holds, and how the one becomes the other.

    python Testing/Python/cmake_lists.py

writes the lists from the tree, after a file was added or removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "DLIRRegistration"
FILE = MODULE / "CMakeLists.txt"
PACKAGES = ("DLIRRegistrationLib", "dlir")
BUNDLES = ("Models", "Presets", "SampleData")


def stated(text: str) -> dict[str, list[str]]:
    """Every list of a CMake file, by name, with one file a line."""
    found = re.finditer(r"^set\((\w+)\n((?:  [^\n)]+\n)*)  \)", text, re.MULTILINE)
    return {match[1]: match[2].replace("${MODULE_NAME}", "DLIRRegistration").split() for match in found}


def in_tree() -> dict[str, list[str]]:
    """What the lists must say for all to be packaged that the extension needs."""
    scripts, others = [MODULE / "DLIRRegistration.py"], list(_files(MODULE / "Resources"))
    for file in (file for package in PACKAGES for file in _files(MODULE / package)):
        (scripts if file.suffix == ".py" else others).append(file)
    bundled = [file for folder in BUNDLES for file in _files(ROOT / "Resources" / folder) if file.suffix != ".py"]
    return {
        "MODULE_PYTHON_SCRIPTS": _names(scripts, MODULE),
        "MODULE_PYTHON_RESOURCES": _names(others, MODULE),
        "DLIR_BUNDLED_FILES": _names(bundled, ROOT / "Resources"),
    }


def updated(text: str) -> str:
    """The CMake file `text` with the lists that the tree asks for."""
    for name, files in in_tree().items():
        lines = "".join(f"  {file}\n" for file in files)
        text = re.sub(rf"^(set\({name}\n)(?:  [^\n)]+\n)*(  \))", rf"\g<1>{lines}\g<2>", text, flags=re.MULTILINE)
    return text


def _files(folder: Path) -> Iterator[Path]:
    """Every file below, less what Python and editors leave."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and "__pycache__" not in parts and not any(part.startswith(".") for part in parts):
            yield path


def _names(files: list[Path], folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in files)


if __name__ == "__main__":
    FILE.write_text(updated(FILE.read_text(encoding="utf-8")), encoding="utf-8")
