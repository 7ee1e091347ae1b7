"""The system libraries that drawing without a screen needs, and a browser: what is missing, and how to get it.

Qt's offscreen platform and VTK's offscreen windows load the libraries, and reports are opened in the browser; no Python
package brings them. Tests ask `missing` and `find_browser` and skip with advice. `make test` runs this file, which
installs what is missing where it may:

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
# Names of a browser that runs without a screen, and Debian's package of the first.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_ADVICE = f"no browser ({', '.join(BROWSERS)}); install one (Debian: apt install {BROWSERS[0]})"


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


def find_browser() -> str | None:
    """The program of a browser for pages that tests make."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def _needed() -> list[str]:
    return list(dict.fromkeys([*missing(QT), *missing(*VTK_CHOICES)]))


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _wanted() -> list[str]:
    """The packages that would bring what is missing."""
    libraries = [PACKAGES[name] for name in missing(tuple(PACKAGES))] if _needed() else []
    return libraries if find_browser() else [*libraries, BROWSERS[0]]


def _install(packages: Sequence[str]) -> None:
    """Get Debian's packages, one by one: a system that lacks one may have the others."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::http::Timeout=30"]
    subprocess.run([*command, "update"], env=environment, check=False, **quiet)
    for name in packages:
        subprocess.run(
            [*command, "install", "-y", "--no-install-recommends", name],
            env=environment,
            check=False,
            **quiet,
        )


def main() -> None:
    wanted = _wanted()
    if wanted and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {' '.join(wanted)} for the tests that draw", flush=True)
        _install(wanted)
    if _needed():
        print(f"Some tests that draw will be skipped: {advice(_needed())}", flush=True)
    if not find_browser():
        print(f"The test that opens a report will be skipped: {BROWSER_ADVICE}", flush=True)


if __name__ == "__main__":
    main()
