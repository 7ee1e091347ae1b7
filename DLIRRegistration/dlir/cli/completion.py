"""What a shell offers after Tab for values that no type lists, such as names of models. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from dlir.registration.choices import AUTO_MODEL, NO_MODEL, SIMILARITIES


def models(incomplete: str) -> list[str]:
    """Models that are installed; where none begins so, the shell offers files."""
    from dlir.model.catalogue import all_models

    return _beginning(incomplete, [entry.name for entry in all_models() if entry.header])


def models_or_choice(incomplete: str) -> list[str]:
    """The same where none, and having one chosen, are possible too."""
    return [*_beginning(incomplete, [AUTO_MODEL, NO_MODEL]), *models(incomplete)]


def presets(incomplete: str) -> list[str]:
    """Presets that come with DLIR."""
    from dlir.model.catalogue import resource_folder

    return _beginning(incomplete, sorted(path.stem for path in resource_folder("Presets").glob("*.yaml")))


def similarities(incomplete: str) -> list[str]:
    """What may be optimised."""
    return _beginning(incomplete, SIMILARITIES)


def _beginning(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
