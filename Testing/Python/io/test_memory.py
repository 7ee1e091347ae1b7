"""Memory that is given back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from dlir.io.memory import give_back_memory, keep_large_blocks_apart

HELD = """
import numpy as np
from dlir.io.memory import give_back_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

pieces = [np.ones(60_000, np.uint8) for _ in range(2_000)]
del pieces[:-1]  # the last one keeps the heap from shrinking by itself
before = resident()
give_back_memory()
print(before - resident())
"""

# Once a block of 8 MiB has been freed, those of 3 MiB go into the heap, where the last one keeps them.
LARGE = """
import sys
import numpy as np
from dlir.io.memory import keep_large_blocks_apart

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "apart":
    keep_large_blocks_apart()
blocks = [np.ones(8 << 20, np.uint8)]
blocks.clear()
before = resident()
blocks = [np.ones(3 << 20, np.uint8) for _ in range(20)]
del blocks[:-1]
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_large_blocks_go_back_when_they_are_freed() -> None:
    together, apart = (
        int(subprocess.run([sys.executable, "-c", LARGE, how], capture_output=True, text=True, check=True).stdout)
        for how in ("together", "apart")
    )
    assert together > 50e6
    assert apart < 10e6


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_what_was_freed_in_pieces_goes_back_to_the_system() -> None:
    given = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    assert int(given.stdout) > 50e6


def test_elsewhere_it_is_left_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlir.io import memory

    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory._c_library.cache_clear()
    give_back_memory()
    keep_large_blocks_apart()
    assert memory._c_library() is None
    memory._c_library.cache_clear()
