"""What the patterns of DLIRRegistration/CMakeLists.txt match, and what the tree holds that must be packaged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "DLIRRegistration"
FILE = MODULE / "CMakeLists.txt"
PACKAGES = ("DLIRRegistrationLib", "dlir")
BUNDLES = ("Models", "Presets", "SampleData")

_COMMAND = re.compile(
    r"""^(?: set\(LEFTOVERS[ ]"(?P<leftovers>.*)"\)
         | file\(GLOB_RECURSE[ ](?P<glob>\w+)[ ]RELATIVE[ ](?P<base>\S+)[ ]CONFIGURE_DEPENDS\n(?P<patterns>[^)]*)\)
         | list\(FILTER[ ](?P<filter>\w+)[ ]EXCLUDE[ ]REGEX[ ]"(?P<regex>.*)"\)
         | list\(PREPEND[ ](?P<list>\w+)[ ](?P<file>\S+)\) )$""",
    re.MULTILINE | re.VERBOSE,
)


def matched(text: str) -> dict[str, list[str]]:
    """The lists that the CMake file `text` makes, by name, evaluated as CMake does the four commands that it uses."""
    values = {"CMAKE_CURRENT_SOURCE_DIR": str(MODULE), "DLIR_RESOURCES": str(ROOT / "Resources")}
    values["MODULE_NAME"] = "DLIRRegistration"
    lists: dict[str, list[str]] = {}

    def expanded(value: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], value)

    for command in _COMMAND.finditer(text):
        if command["leftovers"]:
            values["LEFTOVERS"] = command["leftovers"]
        elif command["glob"]:
            base = Path(expanded(command["base"]))
            patterns = (MODULE / expanded(pattern) for pattern in command["patterns"].split())
            files = {file for pattern in patterns for file in pattern.parent.rglob(pattern.name) if file.is_file()}
            lists[command["glob"]] = _names(list(files), base)
        elif command["filter"]:
            regex = re.compile(expanded(command["regex"]))
            lists[command["filter"]] = [name for name in lists[command["filter"]] if not regex.search(name)]
        else:
            lists[command["list"]].insert(0, expanded(command["file"]))
    return lists


def in_tree() -> dict[str, list[str]]:
    """What the lists must hold for all to be packaged that the extension needs."""
    scripts, others = [MODULE / "DLIRRegistration.py"], list(_files(MODULE / "Resources"))
    for file in (file for package in PACKAGES for file in _files(MODULE / package)):
        (scripts if file.suffix == ".py" else others).append(file)
    bundled = [file for folder in BUNDLES for file in _files(ROOT / "Resources" / folder) if file.suffix != ".py"]
    return {
        "MODULE_PYTHON_SCRIPTS": _names(scripts, MODULE),
        "MODULE_PYTHON_RESOURCES": _names(others, MODULE),
        "DLIR_BUNDLED_FILES": _names(bundled, ROOT / "Resources"),
    }


def _files(folder: Path) -> Iterator[Path]:
    """Every file below, less what Python and editors leave."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts) or path.name.endswith("~")
        if path.is_file() and "__pycache__" not in parts and not hidden:
            yield path


def _names(files: list[Path], folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in files)
