"""The system libraries that drawing without a screen needs: what is missing, and how to get it.

Qt's offscreen platform and VTK's offscreen windows load them; no Python package brings them. Tests ask `missing`
and skip with `advice`. `make test` runs this file, which installs what is missing where it may:

    python Testing/Python/native_libraries.py
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

# Debian's package of each library.
PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libOSMesa.so.8": "libosmesa6",
    "libX11.so.6": "libx11-6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0",
}
QT = tuple(name for name in PACKAGES if name != "libOSMesa.so.8")
# VTK draws through EGL, or in software through OSMesa: either will do.
VTK_CHOICES = (("libEGL.so.1",), ("libOSMesa.so.8",))


def missing(*choices: Sequence[str]) -> list[str]:
    """The libraries that cannot be loaded, of the choice that lacks the fewest; [] where one of them is whole.

    Elsewhere than on Linux the wheels bring what they need, or the system has it: nothing is missing.
    """
    if not sys.platform.startswith("linux"):
        return []
    return min(([name for name in choice if not _loads(name)] for choice in choices), key=len)


def advice(libraries: Sequence[str]) -> str:
    """What to tell of missing libraries, in one line."""
    packages = " ".join(PACKAGES[name] for name in libraries)
    return f"no {', '.join(libraries)}; install them (Debian, Ubuntu: apt install {packages})"


def _needed() -> list[str]:
    return list(dict.fromkeys([*missing(QT), *missing(*VTK_CHOICES)]))


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _install(libraries: Sequence[str]) -> None:
    """Get the libraries from Debian's packages, one by one: a system that lacks one package may have the others."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    subprocess.run([*command, "update"], env=environment, check=False, **quiet)
    for name in libraries:
        subprocess.run(
            [*command, "install", "-y", "--no-install-recommends", PACKAGES[name]],
            env=environment,
            check=False,
            **quiet,
        )


def main() -> None:
    if _needed() and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        wanted = missing(tuple(PACKAGES))
        print(f"Installing {' '.join(PACKAGES[name] for name in wanted)} for the tests that draw", flush=True)
        _install(wanted)
    if _needed():
        print(f"Some tests that draw will be skipped: {advice(_needed())}", flush=True)


if __name__ == "__main__":
    main()
