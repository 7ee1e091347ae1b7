"""Fixtures and settings that every test shares."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

REPO_ROOT = Path(__file__).resolve().parents[2]
DATA_SETS = ("acdc", "sunnybrook", "hippocampus", "lung_ct")

# A test run shares its machine, and perhaps with others like it. These are read when the libraries are first imported,
# so they come before that.
_THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
os.environ.setdefault("OMP_NUM_THREADS", str(min(_THREADS, os.cpu_count() or 1)))
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", os.environ["OMP_NUM_THREADS"])

if importlib.util.find_spec("dlir") is None:
    sys.path.insert(0, str(REPO_ROOT / "DLIRRegistration"))

# What a test finds does not depend on the models of whoever runs it: this folder does not exist.
os.environ["DLIR_MODELS"] = str(REPO_ROOT / "Testing" / "Data" / "no-models")

# `ci` draws the same examples every time; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def _data_folder() -> Path:
    return Path(os.environ.get("DLIR_TEST_DATA") or REPO_ROOT.parent / "shared" / "data")


def _data_status() -> str:
    """One line: which data sets are there."""
    folder = _data_folder()
    found = [name for name in DATA_SETS if (folder / name).is_dir()]
    if not found:
        return f"real data: none at {folder}; tests that need it are skipped (set DLIR_TEST_DATA to the folder)"
    missing = [name for name in DATA_SETS if name not in found]
    return f"real data: {', '.join(found)}" + (f"; missing: {', '.join(missing)}" if missing else "")


def pytest_report_header() -> str:
    return _data_status()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(_data_status())


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root folder of the repository."""
    return REPO_ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data, with one folder for each of DATA_SETS; the test is skipped where it is missing."""
    folder = _data_folder()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set DLIR_TEST_DATA to the folder that holds {', '.join(DATA_SETS)}")
    return folder


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """The folder of small inputs that once came out wrong, beside the real data; the test is skipped without it."""
    folder = _data_folder().parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    return folder


@pytest.fixture
def own_threads() -> Iterator[None]:
    """What a test sets of the threads of this process is set back."""
    import SimpleITK as sitk
    import torch

    counts, before = (torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()), dict(os.environ)
    os.environ.pop("DLIR_THREADS", None)
    yield
    os.environ.clear()
    os.environ.update(before)
    torch.set_num_threads(counts[0])
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(counts[1])
