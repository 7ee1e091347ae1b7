"""Names of files in any bytes: Python opens them all, and SimpleITK ends the process for one that is not UTF-8."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dlir.errors import DLIRError


def shown(text: str | os.PathLike[str]) -> str:
    r"""Text in one line that can be printed and stored anywhere; bytes that are no UTF-8 as in "caf\xe9.nrrd"."""
    text = os.fspath(text).replace("\r", "\\r").replace("\n", "\\n")
    text = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
    return text.encode("utf-8", "backslashreplace").decode()


def require_utf8(path: Path, what: str, kind: type[DLIRError]) -> str:
    """`path` as SimpleITK takes it. Raises `kind`, which calls the file `what`, for a name that it cannot take."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise kind(f"{what} has a name that is not UTF-8; rename the file, or the folder that is called so") from None
    return str(path)
