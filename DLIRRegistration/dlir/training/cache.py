"""Prepared images on disk: each is read and resampled once, and then looked at through a memory map.

So a run needs no more memory than the batches at hand, however many images there are. Entries are named by what they
were made from; they appear whole or not at all, so several jobs may share a folder and any of them may be killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlir.errors import GeometryError, ImageError
from dlir.geometry import ImageGrid, Vector3
from dlir.io.content import content_hash
from dlir.io.reading import Volume, read_image, read_mask
from dlir.io.source import split_spec
from dlir.io.writing import write_bytes, write_json
from dlir.model.memory import require_memory
from dlir.model.preprocessing import prepare, resample_axes
from dlir.model.spec import ModelSpec

# Raised whenever the same input would give other values, so that entries of an older version are not used.
_VERSION = 2
# An image has more different values; one value in so many is looked at first.
_MOST_LABELS = 16
_EVERY = 997


@dataclass(frozen=True)
class Original:
    """The image that was prepared, for the model's card. hash: its `content_hash`. spacing: of its voxels, mm."""

    hash: str
    spacing: Vector3


@dataclass(frozen=True)
class Prepared:
    """One image on its working grid, as the networks see it, in files of the cache.

    image_file, mask_file: (z, y, x) arrays, float32 in [0, 1] and uint8; no mask where every voxel counts. name: the
    image specification, for messages. content: digest of what was read, mask included, the same wherever the files are.
    """

    image_file: Path
    mask_file: Path | None
    grid: ImageGrid
    name: str
    content: str
    original: Original

    def image(self) -> Tensor:
        """(z, y, x), read as far as it is looked at."""
        return _map(self.image_file)

    def mask(self) -> Tensor | None:
        """(z, y, x) uint8, or None."""
        return None if self.mask_file is None else _map(self.mask_file)


class Cache:
    """A folder of prepared images, which models may share whether they prepare them alike or not."""

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.preprocessing = spec.preprocessing

    def prepared(self, image: str, mask: str | None = None) -> Prepared:
        """The entry of an image, made where there is none.

        image, mask: specifications as for `dlir.io.read_image`. Raises its errors, and OutputError where the cache
        cannot be written.
        """
        key = self._key(image, mask)
        files = (self.folder / f"{key}.npy", self.folder / f"{key}-mask.npy" if mask else None)
        record = self.folder / f"{key}.json"
        known = _read_record(record)
        if known is not None and all(_is_whole(file, known[0]) for file in files if file is not None):
            grid, content, original = known
        else:
            tensor, share, grid, content, original = self._read(image, mask)
            self.folder.mkdir(parents=True, exist_ok=True)
            _save(files[0], tensor.numpy())
            if files[1] is not None and share is not None:
                _save(files[1], share.numpy())
            # Last, because it says that the others are there.
            entry = {"image": image, "mask": mask, "grid": grid.to_dict(), "content": content}
            write_json(record, entry | {"original": asdict(original)})
        return Prepared(files[0], files[1], grid, image, content, original)

    def remembered(self, name: str, parts: list[Path], compute: Callable[[], list[int]]) -> list[int]:
        """A small result that depends on entries alone, computed once. parts: files of these entries."""
        key = hashlib.sha256(json.dumps([name, *(part.name for part in parts)]).encode()).hexdigest()[:32]
        record = self.folder / f"{key}.json"
        try:
            return [int(value) for value in json.loads(record.read_bytes())]
        except (OSError, ValueError, TypeError):
            values = compute()
            write_json(record, values)
            return values

    def _read(self, image: str, mask: str | None) -> tuple[Tensor, Tensor | None, ImageGrid, str, Original]:
        """Image (z, y, x) float32, mask uint8 where there is one, working grid, digest of what was read, the original.

        Raises its errors as `prepared`.
        """
        volume = read_image(image, role="training image")
        if is_label_map(volume.array):
            raise ImageError(
                f"training image '{image}' holds no more than {_MOST_LABELS} different whole numbers, as labels do "
                "and masks; let the configuration's `files` name images alone"
            )
        self._check_size(image, volume.grid)
        tensor, grid = prepare(volume.array, volume.grid, self.preprocessing)
        if float(tensor.min()) == float(tensor.max()):
            raise ImageError(
                f"training image '{image}' has one value everywhere within the intensity window; leave it out, or "
                "change the window"
            )
        original = Original(content_hash(volume.array), volume.grid.spacing)
        if mask is None:
            return tensor, None, grid, _content(volume), original
        found = read_mask(mask, volume, role="training mask")
        share = resample_axes(torch.from_numpy(found.array.astype(np.float32)), found.grid, grid)
        return tensor, (share > 0.5).to(torch.uint8), grid, _content(volume, found), original

    def _check_size(self, image: str, own: ImageGrid) -> None:
        """Before the image is resampled from its own grid."""
        require_memory(self.spec, own, f"training image '{image}'")
        grid, smallest = self.preprocessing.working_grid(own), self.spec.smallest
        if any(n < least for n, least in zip(grid.size, smallest, strict=True)):
            needed = " x ".join(f"{n * s:.0f}" for n, s in zip(smallest, grid.spacing, strict=True))
            extent = " x ".join(f"{length:.0f}" for length in grid.extent)
            raise GeometryError(f"training image '{image}' measures {extent} mm, and the model needs {needed} mm")

    def _key(self, image: str, mask: str | None) -> str:
        parts = [_VERSION, _identity(image), mask and _identity(mask), asdict(self.preprocessing)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class DryCache(Cache):
    """Reads and prepares, and keeps nothing: to learn what is usable. Its entries have no files."""

    def prepared(self, image: str, mask: str | None = None) -> Prepared:
        _, _, grid, content, original = self._read(image, mask)
        return Prepared(Path(self._key(image, mask)), None, grid, image, content, original)

    def remembered(self, name: str, parts: list[Path], compute: Callable[[], list[int]]) -> list[int]:
        return [0, 1]


def _identity(spec: str) -> list[Any]:
    """What tells one state of a file, or of a folder of DICOM files, from another."""
    path, phase = split_spec(spec)
    source = Path(path).resolve()
    files = sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return [str(source), phase, states]


def is_label_map(array: NDArray[Any]) -> bool:
    """Whether an array holds so few different whole numbers that it is no image. One value in many mostly tells."""
    for values in (array.ravel()[::_EVERY], array):
        distinct = np.unique(values)
        if len(distinct) > _MOST_LABELS or not np.array_equal(distinct, np.round(distinct)):
            return False
    return True


def _save(path: Path, array: NDArray[Any]) -> None:
    # By way of memory: numpy does not say why it could not write a file.
    content = BytesIO()
    np.save(content, array)
    write_bytes(path, content.getvalue())


def _map(path: Path) -> Tensor:
    # Copy on write: torch has no tensors that cannot be written to, and nothing writes to these.
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _content(*volumes: Volume) -> str:
    digest = hashlib.sha256()
    for volume in volumes:
        digest.update(json.dumps([volume.grid.to_dict(), str(volume.array.dtype)]).encode())
        digest.update(np.ascontiguousarray(volume.array).data)
    return digest.hexdigest()


def _read_record(record: Path) -> tuple[ImageGrid, str, Original] | None:
    """Grid, content and original, or None where they were not written, not whole, or before an original was named."""
    try:
        values = json.loads(record.read_bytes())
        original = Original(str(values["original"]["hash"]), tuple(values["original"]["spacing"]))
        return ImageGrid(**values["grid"]), str(values["content"]), original
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_whole(path: Path, grid: ImageGrid) -> bool:
    try:
        return bool(np.load(path, mmap_mode="r").shape == grid.shape)
    except (OSError, ValueError):
        return False
