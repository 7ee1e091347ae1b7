"""Volumes on their way between processes: .npy files, written with plain writes and read through memory maps.

Never written through a memory map: a disk that fills up would then kill the process instead of raising an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import WorkerError
from dlir.io.writing import replacing

# Bytes written between two ticks of whoever writes: a few milliseconds on any disk.
_SLICE_BYTES = 8 << 20


def write_array(path: Path, array: NDArray[Any]) -> Iterator[float]:
    """Write `array` as .npy, a slice at each step of the returned iterator, which gives the fraction written.

        for fraction in write_array(path, array): ...

    `path` appears, whole, with the last step. Raises OutputError where it cannot be written.
    """
    data = np.ascontiguousarray(array)
    content = data.reshape(-1).view(np.uint8).data
    # Not durable: whoever waits here draws a window, and the file need not outlive the process.
    with replacing(path, durable=False) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(data))  # type: ignore[no-untyped-call]
        for start in range(0, len(content), _SLICE_BYTES):
            file.write(content[start : start + _SLICE_BYTES])
            yield min(1.0, (start + _SLICE_BYTES) / len(content))


def read_array(path: str | Path) -> NDArray[Any]:
    """The array of a .npy file through a memory map; writing to it does not change the file.

    Raises WorkerError for a file that is missing or no array.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise WorkerError(f"cannot read array '{path}': {error}; run again") from None
    return array
