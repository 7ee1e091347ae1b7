"""What Slicer's build packages is what the extension needs, and lies where the extension looks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cmake_lists
from cmake_lists import FILE, MODULE, ROOT, in_tree, matched

MODULES = "lib/Slicer-5.13/qt-scripted-modules"
COMMANDS = "lib/Slicer-5.13/cli-modules"

# Slicer's macros as far as they concern us: relative names are kept below the folder of modules, or of commands.
SLICER = f"""
cmake_minimum_required(VERSION 3.20)
project(Slicer NONE)
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
add_subdirectory(${{MODULE}} module)
add_subdirectory(${{MODULE}}/DLIRRegister command)
"""

# A tree with a file of each needed kind, with what must be left out, and what of it is packaged.
LEFT_OUT = (
    "DLIRRegistration/.DLIRRegistration.py.swp",
    "DLIRRegistration/DLIRRegister/DLIRRegister.py",
    "DLIRRegistration/DLIRRegistrationLib/panel/.section.py.swp",
    "DLIRRegistration/Resources/.DS_Store",
    "DLIRRegistration/dlir/__pycache__/a.pyc",
    "DLIRRegistration/dlir/io/a.py~",
    "DLIRRegistration/other.py",
    "Resources/Screenshots/x.png",
    "Resources/SampleData/make.py",
)
PACKAGED = {
    "MODULE_PYTHON_SCRIPTS": ["DLIRRegistration.py", "DLIRRegistrationLib/panel/b.py", "dlir/a.py", "dlir/io/new/c.py"],
    "MODULE_PYTHON_RESOURCES": [
        "DLIRRegistrationLib/panel/look.json",
        "Resources/Icons/x.png",
        "Resources/UI/x.ui",
        "Resources/requirements.txt",
        "dlir/py.typed",
    ],
    "DLIR_BUNDLED_FILES": ["Models/m.safetensors", "Presets/p.yaml", "SampleData/README.md", "SampleData/x.nrrd"],
}


# -- the lists ----------------------------------------------------------------------------------------


def test_the_lists_name_every_file_and_no_other() -> None:
    lists = matched(FILE.read_text(encoding="utf-8"))
    for name, expected in in_tree().items():
        missing = sorted(set(expected) - set(lists[name]))
        surplus = sorted(set(lists[name]) - set(expected))
        assert (missing, surplus) == ([], []), f"{name} lacks {missing} and should not have {surplus}"
        assert lists[name] == expected, f"{name} is not sorted"


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
    """A tree of a few files, with this repository's CMake files."""
    module = tmp_path / "DLIRRegistration"
    names = [
        f"{'Resources' if key.startswith('DLIR_') else module.name}/{name}"
        for key in PACKAGED
        for name in PACKAGED[key]
    ]
    for name in (*names, *LEFT_OUT, "DLIRRegistration/DLIRRegister/DLIRRegister.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("CMakeLists.txt", "DLIRRegister/CMakeLists.txt"):
        shutil.copy(MODULE / name, module / name)
    monkeypatch.setattr(cmake_lists, "ROOT", tmp_path)
    monkeypatch.setattr(cmake_lists, "MODULE", module)
    return tmp_path


def test_every_needed_kind_of_file_is_packaged_and_nothing_else(small: Path) -> None:
    assert matched((small / "DLIRRegistration" / "CMakeLists.txt").read_text(encoding="utf-8")) == PACKAGED
    assert in_tree() == PACKAGED


@pytest.mark.parametrize("pattern", ["dlir/*.py", "Resources/*", "dlir/*", "${DLIR_RESOURCES}/SampleData/*"])
def test_a_pattern_that_is_missing_is_noticed(pattern: str) -> None:
    """The comparison above would fail without it."""
    text = FILE.read_text(encoding="utf-8")
    assert text.count(f"  {pattern}\n") == 1
    assert matched(text.replace(f"  {pattern}\n", "")) != in_tree()


# -- what a build makes of them -----------------------------------------------------------------------


def configured(module: Path, folder: Path) -> Path:
    """Empty `folder`, with the extension of `module` as CMake builds it, in Slicer's layout."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    (folder / "CMakeLists.txt").write_text(SLICER)
    done = subprocess.run(
        ["cmake", "-S", folder, "-B", folder / "build", f"-DMODULE={module}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "build"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as built, in Slicer's layout."""
    return configured(MODULE, tmp_path_factory.mktemp("build"))


def test_cmake_packages_what_the_patterns_match_here(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """CMake's own reading of the patterns is that of `matched`; a new file makes the next build look again."""
    folder = configured(small / "DLIRRegistration", tmp_path_factory.mktemp("small"))
    built = {path.relative_to(folder / MODULES).as_posix() for path in (folder / MODULES).rglob("*") if path.is_file()}
    bundled = {f"dlir/resources/{name}" for name in PACKAGED["DLIR_BUNDLED_FILES"]}
    assert built == {*PACKAGED["MODULE_PYTHON_SCRIPTS"], *PACKAGED["MODULE_PYTHON_RESOURCES"], *bundled}
    (small / "DLIRRegistration" / "dlir" / "late.py").touch()
    done = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / MODULES / "dlir" / "late.py").is_file()


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
