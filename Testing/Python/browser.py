"""A real browser for pages: headless Chromium, where one is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from native_libraries import BROWSER_ADVICE, find_browser

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
)


def take_screenshot(page: Path, picture: Path, profile: Path, size: tuple[int, int] = (1240, 2400)) -> None:
    """A PNG of `page` as a browser of that window size shows it; skips the test where there is no browser.

    profile: a folder of its own for the browser's user data.
    """
    browser = find_browser()
    if browser is None:
        pytest.skip(BROWSER_ADVICE)
    command = [browser, *_FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
    done = subprocess.run(
        [*command, f"--screenshot={picture}", page.resolve().as_uri()], capture_output=True, text=True, timeout=180
    )
    assert picture.is_file(), done.stderr[-2000:]
