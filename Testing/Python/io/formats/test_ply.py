"""A PLY file that is cut anywhere is known before VTK, which would crash, reads it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dlir.errors import ImageError
from dlir.io.formats.ply import is_whole_ply
from dlir.io.formats.surfaces import read_surface

_POINTS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_FACES = ((0, 1, 2), (0, 2, 3), (1, 2, 3))


def content(kind: str) -> tuple[bytes, bytes]:
    """Header and body of three triangles."""
    properties = "".join(f"property float {axis}\n" for axis in "xyz")
    head = (
        f"ply\nformat {kind} 1.0\nelement vertex {len(_POINTS)}\n{properties}"
        f"element face {len(_FACES)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    if kind == "ascii":
        rows = [*_POINTS, *((3, *face) for face in _FACES)]
        return head.encode(), "\n".join(" ".join(map(str, row)) for row in rows).encode()
    order = "<" if kind == "binary_little_endian" else ">"
    points = b"".join(struct.pack(f"{order}3f", *point) for point in _POINTS)
    return head.encode(), points + b"".join(struct.pack(f"{order}B3i", 3, *face) for face in _FACES)


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_every_cut_is_seen(tmp_path: Path, kind: str) -> None:
    head, body = content(kind)
    path = tmp_path / "model.ply"
    path.write_bytes(head + body)
    assert is_whole_ply(path)
    for length in range(len(body)):
        path.write_bytes(head + body[:length])
        assert not is_whole_ply(path), length


@pytest.mark.parametrize(
    "head", [b"", b"ply\n", b"ply\nformat ascii 1.0\nend_header\n", b"ply\nelement vertex x\nend_header\n"]
)
def test_a_header_that_announces_nothing(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "model.ply"
    path.write_bytes(head)
    assert not is_whole_ply(path)


def test_a_file_that_ends_within_its_faces_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("vtkmodules")
    head, body = content("binary_little_endian")
    path = tmp_path / "model.ply"
    path.write_bytes(head + body)
    assert len(read_surface(path, "LPS").points) == len(_POINTS)
    path.write_bytes(head + body[:-20])
    with pytest.raises(ImageError, match="is damaged"):
        read_surface(path, "LPS")
