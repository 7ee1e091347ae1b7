"""What Slicer's build packages is what the extension needs, and lies where the extension looks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cmake_lists
from cmake_lists import FILE, MODULE, ROOT, in_tree, stated, updated

MODULES = "lib/Slicer-5.13/qt-scripted-modules"
COMMANDS = "lib/Slicer-5.13/cli-modules"

# Slicer's macros as far as they concern us: relative names are kept below the folder of modules, or of commands.
SLICER = f"""
set(CMAKE_BINARY_DIR "$ENV{{BUILD}}")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR {MODULES})
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${{ARGN}})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${{MY_UNPARSED_ARGUMENTS}}")
  endif()
  foreach(file ${{MY_SCRIPTS}} ${{MY_RESOURCES}})
    configure_file(${{CMAKE_CURRENT_SOURCE_DIR}}/${{file}} ${{CMAKE_BINARY_DIR}}/{MODULES}/${{file}} COPYONLY)
  endforeach()
endmacro()
macro(SlicerMacroBuildScriptedCLI)
  cmake_parse_arguments(MY "" "NAME" "" ${{ARGN}})
  foreach(suffix py xml)
    configure_file(
      ${{CMAKE_CURRENT_SOURCE_DIR}}/${{MY_NAME}}.${{suffix}} ${{CMAKE_BINARY_DIR}}/{COMMANDS}/${{MY_NAME}}.${{suffix}}
      COPYONLY)
  endforeach()
endmacro()
include(${{CMAKE_CURRENT_SOURCE_DIR}}/CMakeLists.txt)
"""


# -- the lists ----------------------------------------------------------------------------------------


def test_the_lists_name_every_file_and_no_other() -> None:
    lists = stated(FILE.read_text(encoding="utf-8"))
    for name, expected in in_tree().items():
        missing = sorted(set(expected) - set(lists[name]))
        surplus = sorted(set(lists[name]) - set(expected))
        advice = "run: python Testing/Python/cmake_lists.py"
        assert (missing, surplus) == ([], []), f"{name} lacks {missing} and should not have {surplus}; {advice}"
        assert lists[name] == expected, f"{name} is not sorted; {advice}"


def test_the_lists_hold_what_is_easily_forgotten() -> None:
    lists = in_tree()
    assert lists["MODULE_PYTHON_SCRIPTS"][0] == "DLIRRegistration.py"
    assert {"DLIRRegistrationLib/__init__.py", "dlir/__init__.py", "dlir/worker/__main__.py"} <= set(
        lists["MODULE_PYTHON_SCRIPTS"]
    )
    assert {"dlir/py.typed", "Resources/requirements.txt", "Resources/Icons/DLIRRegistration.png"} <= set(
        lists["MODULE_PYTHON_RESOURCES"]
    )
    assert {"Models/cardiac-cine.safetensors", "SampleData/README.md"} <= set(lists["DLIR_BUNDLED_FILES"])
    assert not [name for files in lists.values() for name in files if "__pycache__" in name or "DLIRRegister/" in name]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of a few files."""
    names = ("DLIRRegistration.py", "DLIRRegistrationLib/b.py", "dlir/a.py", "dlir/py.typed", "Resources/UI/x.ui")
    files = [*(f"DLIRRegistration/{name}" for name in names), "Resources/Models/m.safetensors"]
    for name in (*files, "Resources/SampleData/make.py", "DLIRRegistration/dlir/__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(cmake_lists, "ROOT", tmp_path)
    monkeypatch.setattr(cmake_lists, "MODULE", tmp_path / "DLIRRegistration")
    return tmp_path


def test_the_lists_are_written_from_the_tree(small: Path) -> None:
    before = (
        "set(MODULE_PYTHON_SCRIPTS\n  DLIRRegistration.py\n  dlir/gone.py\n  )\n\nset(MODULE_PYTHON_RESOURCES\n  )\n"
        "set(DLIR_BUNDLED_FILES\n  Models/m.safetensors\n  )\n\nkept()\n"
    )
    after = updated(before)
    assert stated(after) == {
        "MODULE_PYTHON_SCRIPTS": ["DLIRRegistration.py", "DLIRRegistrationLib/b.py", "dlir/a.py"],
        "MODULE_PYTHON_RESOURCES": ["Resources/UI/x.ui", "dlir/py.typed"],
        "DLIR_BUNDLED_FILES": ["Models/m.safetensors"],
    }
    assert after.endswith("kept()\n")
    assert updated(after) == after


# -- what a build makes of them -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as built, in Slicer's layout."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    folder = tmp_path_factory.mktemp("build")
    script = folder / "slicer.cmake"
    script.write_text(SLICER)
    for source in (MODULE, MODULE / "DLIRRegister"):
        done = subprocess.run(
            ["cmake", "-P", str(script)],
            cwd=source,
            env={**os.environ, "BUILD": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder


def python(build: Path, code: str) -> str:
    """What a Python prints that knows of the built extension alone."""
    environment = {**os.environ, "PYTHONPATH": str(build / MODULES)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=build, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_the_module_itself_lies_where_slicer_looks_for_modules(build: Path) -> None:
    assert [path.name for path in (build / MODULES).glob("*.py")] == ["DLIRRegistration.py"]
    assert sorted(path.name for path in (build / COMMANDS).iterdir()) == ["DLIRRegister.py", "DLIRRegister.xml"]


def test_what_ships_is_found_from_there(build: Path) -> None:
    printed = python(
        build,
        "import dlir; print(dlir.__file__)\n"
        "from dlir.model.catalogue import all_models, resource_folder\n"
        "for kind in ('Models', 'Presets', 'SampleData'): print(resource_folder(kind))\n"
        "print(*[entry.name for entry in all_models() if entry.problem is None])\n"
        "from DLIRRegistrationLib import dependencies, sample_data\n"
        "print(len(dependencies.requirements()))\n"
        "print(all((sample_data._ICONS / sample.thumbnail).is_file() for sample in sample_data.SAMPLES))\n",
    ).splitlines()
    package = build / MODULES / "dlir"
    assert printed[:4] == [
        str(package / "__init__.py"),
        *(str(package / "resources" / kind) for kind in ("Models", "Presets", "SampleData")),
    ]
    assert "cardiac-cine" in printed[4].split()
    assert printed[5:] == ["4", "True"]


def test_every_file_of_the_packages_is_there(build: Path) -> None:
    for package in cmake_lists.PACKAGES:
        source = {path.relative_to(MODULE) for path in (MODULE / package).rglob("*.py")}
        assert {path.relative_to(build / MODULES) for path in (build / MODULES / package).rglob("*.py")} == source


def test_the_command_finds_dlir_beside_it(build: Path) -> None:
    script = build / COMMANDS / "DLIRRegister.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = f"import runpy; runpy.run_path({str(script)!r})['find_dlir'](); import dlir; print(dlir.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == str(build / MODULES / "dlir" / "__init__.py"), done.stderr


def test_every_cmake_folder_that_is_named_exists() -> None:
    for file in (ROOT / "CMakeLists.txt", ROOT / "Testing" / "CMakeLists.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip().startswith("add_subdirectory("):
                folder = line.split("(")[1].rstrip(")")
                assert (file.parent / folder / "CMakeLists.txt").is_file(), folder
