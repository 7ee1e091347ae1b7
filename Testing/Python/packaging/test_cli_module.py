"""The command line module for Slicer: its description and its program agree, and it does what both say."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import SimpleITK as sitk

from cli_runs import SOURCE, Pair, make_model, read, snapshot, write_pair
from dlir.model.catalogue import all_models
from dlir.registration.choices import AUTO_MODEL, NO_MODEL
from dlir.transforms.files import read_transform

FOLDER = SOURCE / "DLIRRegister"
SAMPLE = SOURCE.parent / "Resources" / "SampleData"
# What Slicer's parser of such descriptions knows and this module uses.
FILES = {"image": ".nrrd", "transform": ".h5", "file": None}
KINDS = {*FILES, "string", "string-enumeration", "integer"}
# How Slicer asks for the outputs that are neither nodes nor files, in a file.
RETURNED = "returnparameterfile"


def parameters() -> list[ElementTree.Element]:
    root = ElementTree.parse(FOLDER / "DLIRRegister.xml").getroot()
    return [item for group in root.findall("parameters") for item in group if item.tag not in ("label", "description")]


def returned() -> list[str]:
    """The names of what Slicer reads from that file: outputs without flag and place."""
    plain = (p for p in parameters() if text(p, "channel") == "output" and not text(p, "longflag") + text(p, "index"))
    return [text(parameter, "name") for parameter in plain]


def text(element: ElementTree.Element, tag: str) -> str:
    found = element.find(tag)
    return "" if found is None else (found.text or "").strip()


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """The program, as a module; what it does to the process is undone."""
    spec = importlib.util.spec_from_file_location("DLIRRegister", FOLDER / "DLIRRegister.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    handler, path = signal.getsignal(signal.SIGTERM), list(sys.path)
    spec.loader.exec_module(module)
    yield module
    signal.signal(signal.SIGTERM, handler)
    sys.path[:] = path


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return write_pair(tmp_path / "in", make_model(tmp_path / "in" / "tiny.safetensors"))


def typed_by_slicer(values: dict[str, str]) -> list[str]:
    """The arguments that Slicer makes of what was chosen in the panel: those with flags first, then the others.

    Nodes and texts that were not chosen are left out, a choice of several never is.
    """
    flagged, placed = [], {}
    for parameter in parameters():
        if text(parameter, "name") in returned():
            continue
        value = values.get(text(parameter, "name"), text(parameter, "default"))
        if text(parameter, "index"):
            placed[int(text(parameter, "index"))] = value
        elif value or parameter.tag == "string-enumeration":
            flagged += [text(parameter, "longflag"), value]
    return [*flagged, *(placed[i] for i in sorted(placed))]


def everything(pair: Pair, out: Path, **more: str) -> dict[str, str]:
    return {
        "fixed": str(pair.fixed),
        "moving": str(pair.moving),
        "model": str(pair.model),
        "device": "cpu",
        "movingLabels": str(pair.moving_label),
        "fixedLabels": str(pair.fixed_label),
        "warped": str(out / "A_vtkMRMLScalarVolumeNodeC.nrrd"),
        "transform": str(out / "A_vtkMRMLTransformNodeB.h5"),
        "jacobian": str(out / "j.nrrd"),
        "errorMap": str(out / "e.nrrd"),
        "warpedLabels": str(out / "l.nrrd"),
        "report": str(out / "r.json"),
        **more,
    }


# -- description and program --------------------------------------------------------------------------


def test_a_program_that_asks_gets_the_description(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """As from Slicer's own command line modules; outside of Slicer too."""
    assert module.main(["--xml"]) == 0
    assert capsys.readouterr().out == (FOLDER / "DLIRRegister.xml").read_text("utf-8")


def test_description_has_what_slicer_shows() -> None:
    root = ElementTree.parse(FOLDER / "DLIRRegister.xml").getroot()
    assert root.tag == "executable"
    assert text(root, "category") == "Registration"
    for tag in ("title", "description", "version", "documentation-url", "license", "contributor", "acknowledgements"):
        assert text(root, tag), tag
    for group in root.findall("parameters"):
        assert text(group, "label")
        assert text(group, "description")
    for parameter in parameters():
        assert parameter.tag in KINDS
        assert text(parameter, "name").isidentifier()
        for tag in ("label", "description"):
            assert text(parameter, tag), text(parameter, "name")
        is_returned = text(parameter, "name") in returned()
        assert (text(parameter, "channel") in ("input", "output")) is (parameter.tag in FILES or is_returned)
        assert not (text(parameter, "index") and text(parameter, "longflag"))
    references = {parameter.get("reference") for parameter in parameters()} - {None}
    assert references <= {text(parameter, "name") for parameter in parameters()}


def test_description_and_program_have_the_same_parameters(module: ModuleType) -> None:
    actions = {a.dest: a for a in module.make_parser()._actions if not isinstance(a, argparse._HelpAction)}
    assert [text(p, "name") for p in parameters() if text(p, "index")] == [
        name for name, action in actions.items() if not action.option_strings
    ]
    assert actions.pop(RETURNED).option_strings == [f"--{RETURNED}"]
    asked = [parameter for parameter in parameters() if text(parameter, "name") not in returned()]
    assert {text(parameter, "name") for parameter in asked} == set(actions)
    for parameter in asked:
        action = actions[text(parameter, "name")]
        assert action.option_strings == ([f"--{action.dest}"] if not text(parameter, "index") else [])
        assert (action.default or "") == text(parameter, "default")
        if action.dest != "model":  # the program takes more than the panel offers: names and files of a user's own
            assert list(action.choices or []) == [element.text for element in parameter.findall("element")]


def test_the_models_that_come_with_it_can_be_chosen() -> None:
    (model,) = [parameter for parameter in parameters() if text(parameter, "name") == "model"]
    bundled = [entry.name for entry in all_models() if entry.bundled]
    assert [element.text for element in model.findall("element")] == [AUTO_MODEL, NO_MODEL, *bundled]


def test_a_file_takes_the_place_of_the_model_that_is_chosen(module: ModuleType, tmp_path: Path) -> None:
    told = ["--transform", str(tmp_path / "t.h5"), "fixed.nrrd", "moving.nrrd"]
    for given, asked in (
        ([], "auto"),
        (["--model", "hippocampus"], "hippocampus"),
        (["--model", "auto", "--modelFile", "mine.safetensors"], "mine.safetensors"),
        (["--model", "mine.safetensors"], "mine.safetensors"),  # as it was before
    ):
        assert module.request_of(module.parse([*given, *told]), tmp_path).model == asked


def test_slicer_asks_for_the_file_types_that_are_written(module: ModuleType) -> None:
    outputs = {text(p, "name"): p for p in parameters() if text(p, "channel") == "output" and p.tag in FILES}
    assert set(outputs) == set(module.OUTPUTS)
    for name, parameter in outputs.items():
        stated = parameter.get("fileExtensions") or FILES[parameter.tag]
        assert stated == module.OUTPUTS[name][1]


def test_slicer_takes_it_for_a_command_line_module() -> None:
    """By its first two letters; a file without them would be taken for a module with a panel."""
    assert (FOLDER / "DLIRRegister.py").read_text(encoding="utf-8").startswith("#!/usr/bin/env python-real\n")


# -- runs ---------------------------------------------------------------------------------------------


def test_a_run_writes_what_was_chosen(
    module: ModuleType, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    chosen = everything(pair, out)
    assert module.main(typed_by_slicer(chosen)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    fractions = [float(line.split("<filter-progress>")[1].split("<")[0]) for line in printed.out.splitlines()]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert sorted(path.name for path in out.iterdir()) == sorted(Path(chosen[n]).name for n in module.OUTPUTS)
    fixed, moving = sitk.ReadImage(str(pair.fixed)), sitk.ReadImage(str(pair.moving))
    transform = sitk.ReadTransform(chosen["transform"])
    expected = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32))
    difference = abs(read(Path(chosen["warped"])) - expected)
    assert (difference > 0.5).mean() < 0.01
    assert read(Path(chosen["warpedLabels"])).dtype == "uint8"
    report = json.loads(Path(chosen["report"]).read_text())
    assert set(report["labels"]) == {"1", "2"}
    assert set(report["outputs"].values()) == {path.name for path in out.iterdir()}


def test_slicer_is_told_the_verdict(module: ModuleType, pair: Pair, tmp_path: Path) -> None:
    chosen, told = everything(pair, tmp_path / "out"), tmp_path / "in" / "returned.params"
    assert module.main([f"--{RETURNED}", str(told), *typed_by_slicer(chosen)]) == 0
    lines = [line.partition(" = ") for line in told.read_text(encoding="utf-8").splitlines()]
    assert [name for name, _, _ in lines] == returned()
    report = json.loads(Path(chosen["report"]).read_text())
    verdict = report["verdict"]
    assert [value for _, _, value in lines] == [verdict["level"], verdict["reason"], report["model"]["name"]]


def test_a_pair_is_optimised_without_a_model(module: ModuleType, pair: Pair, tmp_path: Path) -> None:
    chosen = everything(pair, tmp_path / "out", model="none", refine="5it", kind="rigid", errorMap="")
    assert module.main(typed_by_slicer(chosen)) == 0
    report = json.loads(Path(chosen["report"]).read_text())
    assert report["model"]["name"] == "none"
    assert (report["refinement"]["budget"], report["refinement"]["kind"]) == ("5it", "rigid")


def test_only_what_was_chosen(module: ModuleType, pair: Pair, tmp_path: Path) -> None:
    target = tmp_path / "out" / "t.h5"
    values = {"fixed": str(pair.fixed), "moving": str(pair.moving), "model": str(pair.model), "transform": str(target)}
    assert module.main(typed_by_slicer({**values, "device": "cpu"})) == 0
    assert [path.name for path in target.parent.iterdir()] == ["t.h5"]
    read_transform(target)


def test_an_initial_transform_takes_the_place_of_the_other_starts(
    module: ModuleType, pair: Pair, tmp_path: Path
) -> None:
    """Slicer always passes a value for the latter."""
    start = tmp_path / "in" / "start.h5"
    sitk.WriteTransform(sitk.TranslationTransform(3, (1.0, 2.0, -1.0)), str(start))
    values = everything(pair, tmp_path / "out", initialTransform=str(start), initialize="centers")
    assert module.main(typed_by_slicer(values)) == 0
    report = json.loads(Path(values["report"]).read_text())
    assert report["initialization"]["mode"] not in ("centers", "scanner")


def test_an_output_may_take_the_place_of_an_input(module: ModuleType, pair: Pair) -> None:
    """As when the moving volume is chosen as output too: it has been read by then."""
    before = pair.moving.read_bytes()
    values = {"fixed": str(pair.fixed), "moving": str(pair.moving), "model": str(pair.model), "device": "cpu"}
    assert module.main(typed_by_slicer({**values, "warped": str(pair.moving)})) == 0
    assert pair.moving.read_bytes() != before
    assert read(pair.moving).shape == read(pair.fixed).shape


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"warped": "", "transform": "", "jacobian": "", "errorMap": "", "warpedLabels": "", "report": ""},
            ["at least one output"],
        ),
        ({"warped": "w.nii.gz"}, ["--warped", "must end in .nrrd"]),
        ({"transform": "nowhere/t.h5"}, ["--transform", "does not exist"]),
        ({"movingLabels": "", "fixedLabels": ""}, ["--warpedLabels needs --movingLabels"]),
        ({"movingLabels": "", "warpedLabels": ""}, ["--fixedLabels needs --movingLabels"]),
        ({"fixed": "absent.nrrd"}, ["fixed image 'absent.nrrd'", "check the path"]),
        ({"model": "cardiak"}, ["no model 'cardiak'", "cardiac-cine"]),
        ({"device": "tpu"}, ["--device", "invalid choice"]),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(
    module: ModuleType,
    pair: Pair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    words: list[str],
) -> None:
    before = snapshot(tmp_path)
    try:
        code = module.main(typed_by_slicer(everything(pair, tmp_path / "out", **change)))
    except SystemExit as stop:  # what argparse does
        code = stop.code
    assert code == module.EXIT_ERROR
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    for word in words:
        assert word in line
    assert snapshot(tmp_path) == before


def test_a_disk_that_is_full_leaves_nothing(
    module: ModuleType,
    pair: Pair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last of the outputs does not fit any more: the ones before it do not stay either."""
    before, copied = snapshot(tmp_path), []

    def fill_up(source: Path, target: Path) -> None:
        copied.append(target)
        target.write_bytes(source.read_bytes()[:10])
        if len(copied) == len(module.OUTPUTS):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", fill_up)
    assert module.main(typed_by_slicer(everything(pair, tmp_path / "out"))) == module.EXIT_ERROR
    assert "disk is full" in capsys.readouterr().err
    assert snapshot(tmp_path) == before


def test_an_end_from_outside_leaves_nothing(
    module: ModuleType,
    pair: Pair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = snapshot(tmp_path)

    def tell(step: str, fraction: float) -> None:
        if fraction > 0.5:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(module, "tell", tell)
    assert module.main(typed_by_slicer(everything(pair, tmp_path / "out"))) == module.EXIT_INTERRUPTED
    assert capsys.readouterr().err == "error: interrupted; nothing was written\n"
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_a_package_that_is_missing_is_named(pair: Pair, tmp_path: Path, package: str) -> None:
    arguments = typed_by_slicer(everything(pair, tmp_path / "out"))
    code = f"import sys, runpy; sys.modules[{package!r}] = None; runpy.run_path(sys.argv[0], run_name='__main__')"
    script = str(FOLDER / "DLIRRegister.py")
    code = f"import sys; sys.argv = {[script, *arguments]!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: the Python package '{package}' is not installed; "
        "open the module DLIR Registration in Slicer and press Install, or use pip\n"
    )


@pytest.mark.slow
def test_the_sample(tmp_path: Path) -> None:
    """The real thing: the shipped pair and model, in a process of its own that is told nothing of where dlir lies."""
    outputs = {"warped": "w.nrrd", "transform": "t.h5", "warpedLabels": "l.nrrd", "report": "r.json"}
    arguments = typed_by_slicer(
        {
            "fixed": str(SAMPLE / "fixed_ed.nrrd"),
            "moving": str(SAMPLE / "moving_es.nrrd"),
            "movingLabels": str(SAMPLE / "moving_es_label.nrrd"),
            "fixedLabels": str(SAMPLE / "fixed_ed_label.nrrd"),
            "device": "cpu",
            **{name: str(tmp_path / file) for name, file in outputs.items()},
        }
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "DLIRRegister.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "<filter-progress>1.000</filter-progress>" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(outputs.values())
    dice = json.loads((tmp_path / "r.json").read_text())["labels"]["1"]
    assert dice["after"]["dice"] > dice["before"]["dice"] + 0.05
