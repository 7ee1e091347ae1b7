"""The models that come with DLIR and the user's own; one is named by its name, or as a file. Needs no torch."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

import dlir
from dlir.errors import ModelError
from dlir.model.file import ModelHeader, read_header

SUFFIX = ".safetensors"
# Names a folder of models to use instead of the one among the user's data.
USER_FOLDER_VARIABLE = "DLIR_MODELS"


@dataclass(frozen=True)
class Entry:
    """A model file of the catalogue. header: None where it cannot be used, and `problem` says why.

    bundled: it comes with DLIR; else it is the user's own.
    """

    name: str
    path: Path
    header: ModelHeader | None
    problem: str | None = None
    bundled: bool = True


def resource_folder(kind: str) -> Path:
    """The folder of what comes with DLIR: "Models", "Presets" or "SampleData".

    Inside the package where it is installed; at the root of the repository where it runs from its source.
    """
    package = Path(dlir.__file__).resolve().parent
    installed = package / "resources" / kind
    return installed if installed.is_dir() else package.parents[1] / "Resources" / kind


def user_folder() -> Path:
    """The folder of the user's own models, which need not exist: the same for Slicer and for the command line."""
    if named := os.environ.get(USER_FOLDER_VARIABLE):
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return data / "DLIR" / "Models"


def all_models() -> list[Entry]:
    """The models that come with DLIR, then the user's own, each by name. One that is damaged is listed as such."""
    bundled = [_entry(path) for path in _model_files(resource_folder("Models"))]
    taken = {entry.name for entry in bundled}
    return [*bundled, *(_user_entry(path, taken) for path in _model_files(user_folder()))]


def resolve_model(name: str) -> Path:
    """The file of a model of the catalogue, or the model file `name` itself.

    Raises ModelError for a name that is neither, listing those there are, the most similar first.
    """
    folders = user_folder(), resource_folder("Models")  # of two with one name, the one that comes with DLIR
    files = {path.stem: path for folder in folders for path in _model_files(folder)}
    if name in files:
        return files[name]
    if name.endswith(SUFFIX) or os.path.basename(name) != name or os.path.isfile(name):
        return Path(name)
    nearest = sorted(files, key=lambda other: SequenceMatcher(None, name.lower(), other.lower()).ratio(), reverse=True)
    choice = f"choose one of {', '.join(nearest)}, or give" if nearest else "none comes with this DLIR; give"
    raise ModelError(f"there is no model '{name}'; {choice} a model file (NAME{SUFFIX})")


def _model_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def _entry(path: Path) -> Entry:
    try:
        return Entry(path.stem, path, read_header(path))
    except ModelError as error:
        return Entry(path.stem, path, None, str(error))


def _user_entry(path: Path, taken: set[str]) -> Entry:
    if path.stem in taken:
        problem = f"model file '{path}' has the name of a model that comes with DLIR; rename it"
        return Entry(path.stem, path, None, problem, bundled=False)
    return replace(_entry(path), bundled=False)
