"""What a file holds, whether it is compressed or not and whatever it is called."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 22
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 31  # zlib's word for a window of the largest size within a gzip wrapper


def is_gzip(path: Path) -> bool:
    """Whether the file's first bytes say so. Raises OSError."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def blocks(path: Path) -> Iterator[bytes]:
    """A file's content, a few megabytes at a time, decompressed where it is gzip; bytes after that are passed over.

    Raises OSError, and EOFError or zlib.error for a compressed stream that ends early or is broken.
    """
    with path.open("rb") as file:
        rest = file.read(_BLOCK)
        if not rest.startswith(_GZIP_MAGIC):
            while rest:
                yield rest
                rest = file.read(_BLOCK)
            return
        stream = zlib.decompressobj(_GZIP)
        while rest:
            yield stream.decompress(rest, _BLOCK)
            rest = stream.unconsumed_tail or stream.unused_data
            if len(rest) < len(_GZIP_MAGIC):
                rest += file.read(_BLOCK)
            if stream.eof:
                if not rest.startswith(_GZIP_MAGIC):
                    return
                stream = zlib.decompressobj(_GZIP)  # compressed in several pieces, as some programs do for speed
        yield stream.flush()
        if not stream.eof:
            raise EOFError


def beginning(path: Path, count: int) -> bytes:
    """The first `count` bytes of the content, or what there is. Raises as `blocks`."""
    content = b""
    for block in blocks(path):
        content += block
        if len(content) >= count:
            break
    return content[:count]
