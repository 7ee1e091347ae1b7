"""Names of files in any bytes: Python opens them all, and SimpleITK ends the process for one that is not UTF-8."""

from __future__ import annotations

from pathlib import Path

from dlir.errors import DLIRError

_RENAME = "rename the file, or the folder that is called so"


def require_utf8(path: Path, what: str, kind: type[DLIRError], remedy: str = _RENAME) -> str:
    """`path` as SimpleITK takes it. Raises `kind`, which calls the file `what`, for a name that it cannot take."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise kind(f"{what} has a name that is not UTF-8; {remedy}") from None
    return str(path)
