"""The models that come with DLIR, and how a user names one: by its name, or as a file. Needs no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import dlir
from dlir.errors import ModelError
from dlir.model.file import ModelHeader, read_header

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Entry:
    """A model file of the catalogue. header: None where it cannot be used, and `problem` says why."""

    name: str
    path: Path
    header: ModelHeader | None
    problem: str | None = None


def resource_folder(kind: str) -> Path:
    """The folder of what comes with DLIR: "Models", "Presets" or "SampleData".

    Inside the package where it is installed; at the root of the repository where it runs from its source.
    """
    package = Path(dlir.__file__).resolve().parent
    installed = package / "resources" / kind
    return installed if installed.is_dir() else package.parents[1] / "Resources" / kind


def bundled_models() -> list[Entry]:
    """Every model that comes with DLIR, by name. One that is damaged is listed as such."""
    return [_entry(path) for path in _bundled_files()]


def resolve_model(name: str) -> Path:
    """The file of a model that comes with DLIR, or the model file `name` itself.

    Raises ModelError for a name that is neither, listing those there are, the most similar first.
    """
    files = {path.stem: path for path in _bundled_files()}
    if name in files:
        return files[name]
    if name.endswith(SUFFIX) or os.path.basename(name) != name or os.path.isfile(name):
        return Path(name)
    nearest = sorted(files, key=lambda other: SequenceMatcher(None, name.lower(), other.lower()).ratio(), reverse=True)
    choice = f"choose one of {', '.join(nearest)}, or give" if nearest else "none comes with this DLIR; give"
    raise ModelError(f"there is no model '{name}'; {choice} a model file (NAME{SUFFIX})")


def _bundled_files() -> list[Path]:
    folder = resource_folder("Models")
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def _entry(path: Path) -> Entry:
    try:
        return Entry(path.stem, path, read_header(path))
    except ModelError as error:
        return Entry(path.stem, path, None, str(error))
