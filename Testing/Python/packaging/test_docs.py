"""The pages: links lead somewhere, figures are those of the committed results, and what they tell to run does run."""

from __future__ import annotations

import re
import shlex
import shutil
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import typer

from cmake_lists import ROOT
from dlir.cli import app
from dlir.losses.choices import SIMILARITIES
from dlir.model.catalogue import resolve_model
from dlir.model.file import read_header

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SAMPLES = ROOT / "Resources" / "SampleData"
RESULTS = ROOT / "Benchmarks" / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")
SAMPLE_NAMES = {
    "ed.nrrd": "fixed_ed.nrrd",
    "es.nrrd": "moving_es.nrrd",
    "ed_label.nrrd": "fixed_ed_label.nrrd",
    "es_label.nrrd": "moving_es_label.nrrd",
}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """What a link can name behind '#': headings as GitHub and MkDocs write them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


# -- links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in (target for target in targets if not target.startswith("https://")):
        path, _, anchor = target.partition("#")
        found = file.parent / path if path else file
        assert found.exists(), target
        assert not anchor or anchor in anchors(found.read_text(encoding="utf-8")), target


def test_every_page_is_found_from_the_first() -> None:
    assert "(docs/README.md)" in README
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", page("README.md")))
    assert linked == {file.name for file in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_folders_and_names_of_the_contributors_page_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:DLIRRegistration|Testing|Resources|Benchmarks|docs)[\w/.]*)`", text):
        assert (ROOT / path).exists(), path
    rows = [line for line in text.splitlines() if line.startswith("|") and ".py](" in line]
    assert [cells(row)[0] for row in rows] == ["similarity", "stage kind", "data set", "panel section"]
    for row in rows:
        files = [(ROOT / target).read_text(encoding="utf-8") for target in re.findall(r"\]\(([^)]+)\)", row)]
        for name in re.findall(r"`([A-Z_a-z.]+)`", row):
            # An attribute is defined in its class, a constant or a function at the top.
            assert any(name.rpartition(".")[2] in file for file in files), name


# -- commands -----------------------------------------------------------------------------------------


_FENCED = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def typed(text: str) -> list[list[str]]:
    """The words behind each `dlir` in blocks of code, as a shell gives them to it: without comments, and without what
    the shell does with the rest of the line. It may stand behind another program, or in a string of another language.
    """
    found = []
    for line in "".join(_FENCED.findall(text)).splitlines():
        command = re.search(r"(?<![\w./-])dlir (?=-|[a-z]).*", re.sub(r"(^|\s)#\s.*", "", line))
        if command:
            whole = command[0] if command[0].count('"') % 2 == 0 else command[0].rpartition('"')[0]
            whole = re.sub(r"\$\w+", "1", whole)  # variables, which hold numbers in our pages
            lexer = shlex.shlex(whole, posix=True, punctuation_chars="|&;<>()")
            lexer.whitespace_split = True
            found.append(list(takewhile(lambda word: word[:1] not in tuple("|&;<>()"), lexer))[1:])
    return found


def told(text: str) -> list[list[str]]:
    """The words behind each `dlir` in sentences, which may leave out what does not matter there."""
    return [command.split()[1:] for command in re.findall(r"`(dlir (?:-|[a-z])[^`]*)`", _FENCED.sub("", text))]


@cache
def root_command() -> Any:
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words behind them."""
    command = root_command()
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def unknown(words: list[str]) -> list[str]:
    """Those of the words that are neither commands nor options of theirs, nor may be values."""
    command, rest = command_of(words)
    options = {"--help", "-h", *(name for one in command.params for name in (*one.opts, *one.secondary_opts))}
    missing = [word for word in rest if word.startswith("-") and word.partition("=")[0] not in options]
    return missing + (rest[:1] if hasattr(command, "commands") and rest and not rest[0].startswith("-") else [])


def refused(words: list[str]) -> str:
    """What a command has against its words, before anything is run; empty where nothing."""
    command, rest = command_of(words)
    if hasattr(command, "commands"):  # its own options may do something as soon as they are read
        return " ".join(unknown(words))
    try:
        command.make_context("dlir", rest)
    except typer.Exit:  # of --help
        return ""
    except Exception as error:
        return f"{getattr(error, 'param', '')} {getattr(error, 'message', '') or error!r}"
    return ""


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_every_command_is_one_that_there_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert [(words, refused(words)) for words in typed(text) if refused(words)] == []
    assert [(words, unknown(words)) for words in told(text) if unknown(words)] == []


def test_the_commands_of_the_pages_are_found() -> None:
    assert ["register", "--fixed", "ed.nii.gz"] in [words[:3] for words in typed(README)]
    assert ["batch", "pairs.csv", "--output", "results", "--summary"] in typed(
        page("batch.md")
    )  # in a string, before ||
    assert ["train", "--init-config", "lung_mr"] in typed(page("training.md"))  # before >
    assert ["register", "--fixed", "first.nii.gz"] in [words[:3] for words in typed(page("install.md"))]  # in a list
    assert ["models", "show", "NAME", "--json"] in told(page("models.md"))


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("register --fixed a --moving b --outptu c", "--outptu"),
        ("register --fixed a --moving b --output c --kind elastic", "elastic"),
        ("register --fixed a --moving b", "output"),
        ("registre", "registre"),
        ("models shw cardiac-cine", "shw"),
        ("batch pairs.csv --output c --jobs many", "jobs"),
        ("--verbose", "--verbose"),
    ],
)
def test_a_command_that_is_none_is_found_out(words: str, wrong: str) -> None:
    assert wrong in refused(words.split())


def test_an_option_that_is_none_is_found_out_in_a_sentence() -> None:
    assert unknown(["apply", "--labels"]) == ["--labels"]
    assert unknown(["cine", "--no-cycle"]) == []


# -- the README ---------------------------------------------------------------------------------------


def test_the_readme_is_an_overview() -> None:
    assert len(README.splitlines()) <= 80


def test_the_readme_has_what_the_extensions_index_asks_for() -> None:
    assert "](Resources/Screenshots/" in README
    assert all(f"**{module}**" in README for module in ("DLIR Registration", "DLIR Register (batch)"))
    assert "**DLIR cardiac cine**" in README
    assert "Medical Image Analysis 52 (2019) 128-143" in README
    assert "Apache-2.0 ([LICENSE](LICENSE))" in README


def test_the_makefile_has_the_commands_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"^make (\S+)", README, re.MULTILINE)
    assert commands == ["demo", "test"]
    assert all(re.search(rf"^{command}:", makefile, re.MULTILINE) for command in commands)


def test_figures_and_licences_of_the_models_are_those_of_their_cards() -> None:
    rows = [cells(line) for line in README.splitlines() if line.startswith(("| cardiac-cine", "| hippocampus"))]
    assert len(rows) == 2
    for name, _, dice, folding, licence in rows:
        card = read_header(resolve_model(name)).card
        held_out = card["held_out"]
        told = {f"dice_{structure}": float(value) for structure, value in re.findall(r"(\w+) ([\d.]+)", dice)}
        assert told == {key: value for key, value in held_out.items() if key.startswith("dice_")}
        assert float(folding) == held_out["folding_percent"]
        assert card["licence"].startswith(licence)


def test_the_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    go_to_samples(tmp_path, monkeypatch)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("good ")
    assert {file.name for file in tmp_path.iterdir()} == set(SAMPLE_NAMES)


@pytest.mark.slow
def test_the_python_of_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page("python.md"), re.MULTILINE | re.DOTALL)
    go_to_samples(tmp_path, monkeypatch)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "python.md", "exec"), names)
    assert len(blocks) == 5
    printed = capsys.readouterr().out.splitlines()
    assert printed[-3].endswith("(1, 3) True 0")  # what is applied and inverted
    assert printed[-2:] == ["good", "good"]
    assert {file.name for file in tmp_path.iterdir()} == {*SAMPLE_NAMES, "result", "turned"}
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(names["other"]), sitk.GetArrayFromImage(sitk.ReadImage("result/warped_label.nrrd"))
    )


def go_to_samples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples as the pages call them, in the folder that is worked in from now on."""
    for name, sample in SAMPLE_NAMES.items():
        shutil.copy(SAMPLES / sample, folder / name)
    monkeypatch.chdir(folder)


def test_the_similarities_are_all_described() -> None:
    section = page("training.md").partition("## Similarities")[2].partition("\n## ")[0]
    rows = [cells(line) for line in section.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows[1:]] == list(SIMILARITIES)


# -- figures ------------------------------------------------------------------------------------------


def test_tables_of_the_comparison_are_those_of_the_results() -> None:
    """Every row of figures stands, word for word, in a file that a benchmark wrote."""
    written = {line for file in RESULTS.glob("*.md") for line in file.read_text(encoding="utf-8").splitlines()}
    rows = [line for line in page("benchmarks.md").splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) > 50
    assert [row for row in rows if row not in written] == []


def test_every_benchmark_is_named_and_exists() -> None:
    named = set(re.findall(r"^python Benchmarks/(\w+)\.py", page("benchmarks.md"), re.MULTILINE))
    assert all((ROOT / "Benchmarks" / f"{name}.py").is_file() for name in named)
    assert {file.stem for file in RESULTS.glob("*.md")} <= named


def test_every_departure_from_the_paper_says_what_was_measured() -> None:
    rows = [cells(line) for line in page("paper.md").splitlines() if line.startswith("|") and "---" not in line]
    departures = [row for row in rows[1:] if not row[0].startswith("**")]
    assert len(departures) > 30
    assert all(len(row) == 4 and all(row) for row in departures)
    names = [row[0] for row in departures]
    assert len(set(names)) == len(names)
