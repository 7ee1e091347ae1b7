"""Memory that is given back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from dlir.io.memory import give_back_memory

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_what_was_freed_in_pieces_goes_back_to_the_system() -> None:
    given = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    assert int(given.stdout) > 50e6


def test_elsewhere_it_is_left_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlir.io import memory

    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory._c_library.cache_clear()
    give_back_memory()
    assert memory._c_library() is None
    memory._c_library.cache_clear()
