"""What an image holds, as a short name that all its copies share: by it a model knows whom it was trained on."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

# Raised whenever the same image would be called otherwise; a model's card says which of them its names are.
CONTENT_VERSION = 1


def content_hash(array: NDArray[np.float32]) -> str:
    """16 hexadecimal digits of the finite voxel values of an image, (z, y, x).

    Copies have the same ones: under another name, in another format, compression or number type, with axes stored in
    another order or from the other end, and under another header. Position and voxel size do not count: saving rounds
    them, tools rewrite them, and whoever was trained on the values has seen the image.
    """
    # One code for every slice across each axis. A sum does not depend on the order of what is added.
    codes = [np.zeros(size, np.uint64) for size in array.shape]
    for number, slab in enumerate(array):
        mixed = _mixed(slab)
        codes[0][number] = mixed.sum(dtype=np.uint64)
        codes[1] += mixed.sum(1, dtype=np.uint64)
        codes[2] += mixed.sum(0, dtype=np.uint64)
    # Neither the end from which an axis is counted nor the axes' order makes a difference.
    either_end = [min(own.astype("<u8").tobytes(), own[::-1].astype("<u8").tobytes()) for own in codes]
    digest = hashlib.sha256()
    for axis in sorted(either_end, key=lambda own: (len(own), own)):
        digest.update(len(axis).to_bytes(8, "little") + axis)
    return digest.hexdigest()[:16]


def _mixed(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """The values' bits spread over 64, so that sums of other values are other sums (the finalizer of splitmix64)."""
    # Adding 0 makes -0 the same as 0.
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)
    bits += np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
