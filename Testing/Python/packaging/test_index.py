"""What the extensions index checks of an entry and of the repository that it names."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

from cmake_lists import MODULE, ROOT

CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
ENTRY = json.loads((ROOT / "DLIR.json").read_text(encoding="utf-8"))
HOMEPAGE = "https://github.com/dlir/SlicerDLIR"
RAW = HOMEPAGE.replace("github.com", "raw.githubusercontent.com") + "/main/"


def meta(name: str) -> str:
    """A value of the extension's description in CMake, as the index reads it."""
    found = re.findall(rf'set\s*\(EXTENSION_{name}\s*"([^"]+)"[ ]*\)', CMAKE)
    assert len(found) == 1, name
    return str(found[0])


def s4ext() -> dict[str, str]:
    lines = (ROOT / "DLIR.s4ext").read_text(encoding="utf-8").splitlines()
    return {
        key: value.strip()
        for key, _, value in (line.partition(" ") for line in lines if line and not line.startswith("#"))
    }


def local(url: str) -> Path:
    """The file of this repository that an address on the web will be."""
    assert url.startswith(RAW)
    return ROOT / url.removeprefix(RAW)


def test_the_entry_has_what_its_schema_allows() -> None:
    types = {
        "$schema": str,
        "build_dependencies": list,
        "build_subdirectory": str,
        "category": str,
        "dicom_support_rule": str,
        "scm_revision": str,
        "scm_url": str,
        "tier": int,
    }
    assert {key: type(value) for key, value in ENTRY.items()} == types
    assert ENTRY["$schema"].endswith("/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert 1 <= ENTRY["tier"] <= 5
    assert ENTRY["category"] == "Registration"
    assert all(isinstance(name, str) for name in ENTRY["build_dependencies"])
    # A rule tells for which DICOM data Slicer suggests to install the extension, to load them. It loads none.
    assert ENTRY["dicom_support_rule"] == "false"
    assert b"\r" not in (ROOT / "DLIR.json").read_bytes()


def test_names_are_as_the_index_wants_them() -> None:
    """The project is called as the entry; the repository begins with Slicer and the extension does not."""
    assert re.findall(r"project\s*\(\s*([^\s)]+)", CMAKE) == ["DLIR"]
    repository = ENTRY["scm_url"].removesuffix(".git").rsplit("/", 1)[1]
    assert repository.startswith("Slicer")
    assert (ROOT / "LICENSE").is_file()


def test_everything_says_the_same() -> None:
    assert meta("HOMEPAGE") == HOMEPAGE
    assert ENTRY["scm_url"] == f"{HOMEPAGE}.git"
    assert meta("DEPENDS").split() == ENTRY["build_dependencies"]
    old = s4ext()
    assert old == {
        "scm": "git",
        "scmurl": ENTRY["scm_url"],
        "scmrevision": ENTRY["scm_revision"],
        "depends": meta("DEPENDS"),
        "build_subdirectory": ENTRY["build_subdirectory"],
        "homepage": HOMEPAGE,
        "contributors": meta("CONTRIBUTORS"),
        "category": ENTRY["category"],
        "iconurl": meta("ICONURL"),
        "status": old["status"],
        "tier": str(ENTRY["tier"]),
        "description": meta("DESCRIPTION"),
        "screenshoturls": meta("SCREENSHOTURLS"),
        "enabled": "1",
        "keywords": meta("KEYWORDS"),
    }
    command = ElementTree.parse(MODULE / "DLIRRegister" / "DLIRRegister.xml").getroot()
    assert command.findtext("documentation-url") == HOMEPAGE
    assert command.findtext("contributor") == meta("CONTRIBUTORS")
    assert command.findtext("category") == ENTRY["category"]
    assert f'contributors = ["{meta("CONTRIBUTORS")}"]' in (MODULE / "DLIRRegistration.py").read_text(encoding="utf-8")


def test_pictures_are_pictures() -> None:
    icon = local(meta("ICONURL")).read_bytes()
    assert icon.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", icon[16:24]) == (128, 128)
    urls = meta("SCREENSHOTURLS").split()
    assert 2 <= len(urls) <= 3
    for url in urls:
        picture = local(url).read_bytes()
        assert picture.startswith(b"\x89PNG\r\n")
        assert len(picture) <= 300_000, url
        width, height, depth, kind = struct.unpack(">IIBB", picture[16:26])
        assert width <= 1280, url
        assert height <= 1280, url
        assert (depth, kind) == (8, 2), f"{url}: eight bits each of red, green and blue, and no table of colours"


def test_every_picture_is_used() -> None:
    """By the index, the README or the docs; what is not would only make the checkout larger."""
    texts = [ROOT / "README.md", ROOT / "CMakeLists.txt", *(ROOT / "docs").rglob("*.md")]
    used = {
        name for path in texts for name in re.findall(r"Resources/Screenshots/([\w-]+\.png)", path.read_text("utf-8"))
    }
    assert {path.name for path in (ROOT / "Resources" / "Screenshots").glob("*.png")} == used


def test_the_version_is_that_of_the_code() -> None:
    import dlir

    command = ElementTree.parse(MODULE / "DLIRRegister" / "DLIRRegister.xml").getroot()
    assert command.findtext("version") == dlir.__version__
