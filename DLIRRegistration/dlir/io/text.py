"""Text files as people's programs save them: UTF-8, what Excel calls Unicode text, or Windows' Western European."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
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
