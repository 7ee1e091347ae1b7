"""The documentation site: what `make docs` lays out before Zensical makes HTML of it, strictly, in CI."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement

import dlir
from cmake_lists import ROOT

sys.path.append(str(ROOT / "docs" / "site"))
import make_site
import pictures
import reference

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
GENERATED = {"first-pair.md", "commands.md", "api.md"}
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.png"))


def pages_of(nav: Any) -> Iterator[str]:
    """The files of a navigation, from the first page to the last."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(entry)


def test_every_page_is_in_the_navigation_once() -> None:
    there = {file.name for file in (ROOT / "docs").glob("*.md")} | GENERATED | set(make_site.ELSEWHERE)
    listed = list(pages_of(CONFIG["nav"]))
    assert sorted(listed) == sorted(there)
    assert listed[0] == "README.md"


def test_it_is_built_where_nothing_is_committed() -> None:
    assert {CONFIG["docs_dir"], CONFIG["site_dir"]} == {"build/pages", "build/site"}
    assert "build/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "--strict" in Path(make_site.__file__).read_text(encoding="utf-8")
    assert all(CONFIG["validation"].values())


def test_what_is_laid_out_has_links_that_hold_there(tmp_path: Path) -> None:
    make_site.lay_out(tmp_path / "pages")
    laid_out = {file.name for file in (tmp_path / "pages").glob("*.md")}
    assert laid_out | GENERATED == set(pages_of(CONFIG["nav"]))
    for file in (tmp_path / "pages").glob("*.md"):
        for _, target in make_site._LINK.findall(file.read_text(encoding="utf-8")):
            outside = target.startswith(("https://", "http://"))
            assert outside or (file.parent / target).exists() or target in GENERATED, (file.name, target)


@pytest.mark.parametrize(
    ("link", "there"),
    [
        ("](training.md#manifests)", "](training.md#manifests)"),
        ("](../CONTRIBUTING.md)", "](CONTRIBUTING.md)"),
        ("](first-pair.ipynb)", "](first-pair.md)"),
        ("](../Benchmarks/results/speed.md)", f"]({make_site.REPOSITORY}/Benchmarks/results/speed.md)"),
        ('src="../Resources/Screenshots/overlay-after.png"', 'src="pictures/overlay-after.png"'),
        ("](#above)", "](#above)"),
        ("](https://example.org/a.md)", "](https://example.org/a.md)"),
    ],
)
def test_a_link_leads_to_the_page_or_to_the_repository(tmp_path: Path, link: str, there: str) -> None:
    assert make_site.with_links(f"See [this{link}.", ROOT / "docs", tmp_path) == f"See [this{there}."


def test_a_link_to_nothing_ends_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"nowhere\.md"):
        make_site.with_links("[x](nowhere.md)", ROOT / "docs", tmp_path)


def test_points_of_numbered_lists_hold_together() -> None:
    text = "1. One\n\n   | a |\n   | - |\n\n2. Two,\n   still\n\nText\n   as it is"
    assert make_site.indented(text) == text.replace("\n   |", "\n    |").replace("\n   still", "\n    still")


def test_the_commands_are_all_there_with_the_help_they_print() -> None:
    page = reference.commands_page()
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings[:2] == ["dlir", "dlir register"]
    assert {"dlir models show", "dlir presets plan", "dlir data check"} <= set(headings)
    assert "--fixed IMAGE" in page
    assert page.count("-h, --help") == len(headings)


def test_the_python_reference_has_every_public_name() -> None:
    named = re.findall(r"^::: (\S+)$", reference.python_page(), re.MULTILINE)
    assert {name.rpartition(".")[2] for name in named} == {name for name in dlir.__all__ if not name.startswith("_")}


def test_the_notebook_is_kept_without_what_it_showed() -> None:
    notebook = json.loads(make_site.NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_pictures_are_few_and_small() -> None:
    assert len(PICTURES) < 10
    assert all(picture.stat().st_size < 200_000 for picture in PICTURES)


@pytest.mark.slow
def test_pictures_are_those_that_the_code_draws(tmp_path: Path) -> None:
    from PIL import Image

    drawn = pictures.main(tmp_path)
    assert sorted(path.name for path in drawn) == [picture.name for picture in PICTURES]
    for picture in PICTURES:
        with Image.open(picture) as kept, Image.open(tmp_path / picture.name) as new:
            there, here = (np.asarray(image.convert("RGB"), float) for image in (kept, new))
        assert there.shape == here.shape, picture.name
        # Fonts and the last bits of a network differ between machines; a picture of something else differs by far more.
        assert np.abs(there - here).mean() < 4, picture.name


def test_locks_name_the_same_versions() -> None:
    locks = {
        name: [
            Requirement(line)
            for line in (ROOT / f"requirements-{name}.lock").read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        ]
        for name in ("dev", "demo", "docs")
    }
    environment = {"python_full_version": "3.11.9", "sys_platform": "linux", "platform_machine": "x86_64"}
    pinned = {
        name: {one.name: str(one.specifier) for one in lines if one.marker is None or one.marker.evaluate(environment)}
        for name, lines in locks.items()
    }
    for name in ("demo", "dev"):
        shared = pinned[name].keys() & pinned["docs"].keys()
        assert len(shared) > 30
        assert {one: pinned[name][one] for one in shared} == {one: pinned["docs"][one] for one in shared}
    assert {"zensical", "mkdocstrings-python", "nbconvert", "ipykernel"} <= pinned["docs"].keys()
