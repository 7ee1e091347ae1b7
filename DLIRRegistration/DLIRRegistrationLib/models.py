"""The models a user can choose from: those that come with DLIR, and the user's own, which can be added and removed.

The command line knows the same models by the same names. Works before torch is installed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dlir.errors import ModelError
from dlir.geometry import ImageGrid
from dlir.io.writing import replacing
from dlir.model.card import full_text, licence_of, one_line
from dlir.model.catalogue import SUFFIX, Entry, all_models, resolve_model, user_folder
from dlir.model.domain import in_words
from dlir.model.file import read_header
from dlir.registration.choices import AUTO_MODEL, NO_MODEL

# What a script gets that names no model, as it always did: it must not depend on which are installed. The panel and
# the command line have one chosen instead.
FORMER_DEFAULT = "cardiac-cine"

# How licences are abbreviated that forbid commercial use, such as CC BY-NC-SA 4.0.
_NON_COMMERCIAL = re.compile(r"(?<![A-Z])NC(?![A-Z])")


@dataclass(frozen=True)
class Licence:
    """Under which a model may be used. model: its name. text: what its card says."""

    model: str
    text: str

    def question(self, *, automatic: bool) -> str:
        """What is to be agreed to. automatic: the model is not chosen, but may be for the images."""
        why = (
            f"'Automatic' may choose the model '{self.model}' for your images."
            if automatic
            else f"You have chosen the model '{self.model}'."
        )
        return (
            f"{why} Its licence is {self.text}: it must not be used for commercial purposes, and what is made from it "
            "must name its source and have the same licence.\n\nDo you agree to use it under this licence? You will be "
            "asked once."
        )


def restricting_licences(name: str) -> list[Licence]:
    """The licences that forbid commercial use of what is registered with: a model of the catalogue, or a model file.

    Of "auto", those of all models that may be chosen; of one that cannot be read, none: it cannot be used either.
    """
    if name == NO_MODEL:
        return []
    entries = [entry for entry in all_models() if entry.header is not None and name in (entry.name, AUTO_MODEL)]
    cards = {entry.name: entry.header.card for entry in entries if entry.header is not None}
    if not entries and name != AUTO_MODEL:
        try:
            cards = {Path(name).stem: read_header(resolve_model(name)).card}
        except ModelError:
            return []
    found = [Licence(model, licence_of(card)) for model, card in cards.items()]
    return [licence for licence in found if _NON_COMMERCIAL.search(licence.text)]


def add(path: str | Path) -> Entry:
    """Copy a model file into the user's folder, under its own name; the model as the catalogue has it then.

    Raises ModelError for a file that is no model of this version, and for a name that exists; OutputError where
    the folder cannot be written.
    """
    source = Path(path)
    if source.suffix != SUFFIX:
        raise ModelError(f"'{source}' is no model file: its name must end in {SUFFIX}; choose another file")
    read_header(source)
    if source.stem in (AUTO_MODEL, NO_MODEL):
        raise ModelError(
            f"'{source.stem}' is no name for a model, for it says how to register; rename the file '{source}'"
        )
    if source.stem in {entry.name for entry in all_models()}:
        raise ModelError(f"there already is a model '{source.stem}'; remove that one, or rename the file '{source}'")
    folder = user_folder()
    target = folder / source.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the folder '{folder}' for models: {error.strerror}; check the path") from None
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    return next(entry for entry in all_models() if entry.path == target)


def remove(name: str) -> None:
    """Delete one of the user's own models. Raises ModelError for any other, or where the file cannot be deleted."""
    # Of two with one name, the one that comes with DLIR goes before the user's own, which is meant.
    entry = next((entry for entry in reversed(all_models()) if entry.name == name), None)
    if entry is None:
        raise ModelError(f"there is no model '{name}' to remove; choose one from the list")
    if entry.bundled:
        raise ModelError(f"model '{name}' comes with DLIR and stays; only models that you added can be removed")
    try:
        entry.path.unlink()
    except OSError as error:
        raise ModelError(f"cannot remove model file '{entry.path}': {error.strerror}; check its permissions") from None


def model_problem(name: str) -> str | None:
    """Why a model cannot be asked for anything, as one sentence for a tooltip. What its file holds does not count."""
    if not name:
        return "Choose a model."
    if name in (AUTO_MODEL, NO_MODEL):
        return None
    try:
        resolve_model(name)
    except ModelError as error:
        text = str(error)
        return f"{text[:1].upper()}{text[1:]}."
    return None


def card_line(name: str) -> str:
    """Anatomy, modality and licence of a model (a name, or a file) in one line; what is wrong where it has no card.

    Of "auto" and "none", what they do.
    """
    if name == AUTO_MODEL:
        return "The installed model that was made for such images, or optimisation."
    if name == NO_MODEL:
        return "Any images: the transform is found by optimisation."
    try:
        return one_line(read_header(resolve_model(name)))
    except ModelError as error:
        return str(error)


def misfit(name: str, images: Mapping[str, ImageGrid]) -> str | None:
    """Why a model cannot have been made for images, by their names, as one sentence: their size; None otherwise.

    What they look like is compared when they are registered.
    """
    if name in (AUTO_MODEL, NO_MODEL):
        return None
    try:
        header = read_header(resolve_model(name))
    except ModelError:
        return None  # said elsewhere
    if header.domain is None:
        return None
    for image, grid in images.items():
        if header.domain.size_differs(header.spec.preprocessing.working_grid(grid)):
            return f"Made for images of {header.domain.sizes}; '{image}' measures {in_words(grid.extent)} mm."
    return None


def card_text(name: str) -> str:
    """All that a model (a name, or a file) says of itself, in lines. Raises ModelError where it cannot be read."""
    return full_text(read_header(resolve_model(name)))
