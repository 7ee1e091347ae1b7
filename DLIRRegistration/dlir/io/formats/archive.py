"""Unpacks a zip archive into a temporary folder without trusting anything in it."""

from __future__ import annotations

import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dlir.errors import ImageError
from dlir.io.source import Source

MAX_BYTES = 8 << 30
MAX_FILES = 100_000
_BLOCK = 1 << 20


@contextmanager
def unpacked(source: Source) -> Iterator[dict[Path, str]]:
    """The files of a zip archive in a temporary folder that is removed at the end, and their names in the archive.

    These name no file here, so none can lead out of the folder. Raises ImageError for an archive
    that is damaged, encrypted, or unpacks to more than MAX_BYTES or MAX_FILES.
    """
    try:
        temporary = tempfile.TemporaryDirectory(prefix="dlir-")
    except OSError as error:
        raise _no_room(source, error) from error
    with temporary as folder:
        try:
            names = _unpack(source, Path(folder))
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
            raise ImageError(
                f"{source.name} is a damaged or encrypted zip archive; unpack it yourself and give the folder"
            ) from error
        except OSError as error:
            raise _no_room(source, error) from error
        yield names


def _unpack(source: Source, folder: Path) -> dict[Path, str]:
    room, names = MAX_BYTES, {}
    with zipfile.ZipFile(source.path) as archive:
        entries = [entry for entry in archive.infolist() if _is_wanted(entry)]
        if len(entries) > MAX_FILES:
            raise _too_big(source)
        for number, entry in enumerate(entries):
            path = folder / f"{number:06d}"
            names[path] = entry.filename
            with archive.open(entry) as packed, path.open("wb") as file:
                # Counted while it unpacks: the sizes that the archive states may be wrong on purpose.
                while block := packed.read(_BLOCK):
                    room -= len(block)
                    if room < 0:
                        raise _too_big(source)
                    file.write(block)
    return names


def _is_wanted(entry: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(entry.filename)
    return not entry.is_dir() and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _too_big(source: Source) -> ImageError:
    return ImageError(
        f"{source.name} unpacks to more than {MAX_BYTES / 2**30:g} GiB or {MAX_FILES} files; "
        "unpack what you need of it and give the folder"
    )


def _no_room(source: Source, error: OSError) -> ImageError:
    return ImageError(
        f"{source.name} cannot be unpacked into the temporary folder ({error.strerror}); "
        "free some space there or unpack it yourself and give the folder"
    )
