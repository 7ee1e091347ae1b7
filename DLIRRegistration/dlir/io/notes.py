"""What a reader tells of a file that it reads nevertheless: a Python warning, so that nobody who reads can miss it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class ImageNote(UserWarning):
    """One line about how a file was understood, which its user should know."""


def note(text: str) -> None:
    """Tell it: by whoever `notes_to` names, else as Python shows warnings."""
    warnings.warn(text, ImageNote, stacklevel=2)


@contextmanager
def notes_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Within, `tell` gets each note, once; other warnings are shown as before."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", ImageNote)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if not issubclass(category, ImageNote):
                others(message, category, *rest, **named)
            elif str(message) not in told:
                told.add(str(message))
                tell(str(message))

        warnings.showwarning = show
        yield
