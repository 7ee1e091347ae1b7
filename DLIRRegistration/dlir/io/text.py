"""Text files as people's programs save them: UTF-8, what Excel calls Unicode text, or Windows' Western European; and
tables for such programs.
"""

from __future__ import annotations

import re
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_FORMULA = re.compile(r"[=+\-@\t\r]")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def decode(data: bytes) -> str:
    """The text of a file, without its byte order mark. Raises ValueError for bytes that are none."""
    if data.startswith(_UTF16):
        text = data.decode("utf-16")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252")
    if _CONTROL.search(text):
        raise ValueError("control characters")
    return text


def as_cell(value: Any) -> Any:
    """A value for a table that people open in a spreadsheet: text that would be taken for a formula there, as a file's
    name may be one, gets an apostrophe before it. Numbers stay numbers, negative ones too, be they text or not.
    """
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
