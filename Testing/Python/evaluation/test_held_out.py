"""Which pairs a model has seen: by what images hold, whatever they are called, and by whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from cli_runs import CARD, make_model
from dlir.data.layouts.acdc import Acdc
from dlir.data.layouts.decathlon import Decathlon
from dlir.data.manifest import Manifest
from dlir.data.pair import Pair, Scan, ordered_pairs
from dlir.evaluation.held_out import hold_out, reading_contents, same_subjects, seen_pairs
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.methods.network import NetworkMethod
from dlir.io.content import content_hash
from dlir.io.reading import read_image
from dlir.model.card import content_entry
from dlir.model.catalogue import resolve_model
from dlir.model.file import read_header

CPU = torch.device("cpu")


def contents(scan: Scan) -> str | None:
    """A scan of these tests holds what its file is called, up to a dot; one without a name cannot be read."""
    return Path(scan.image).name.partition(".")[0] or None


def scan(subject: str, image: str, part: str = "") -> Scan:
    return Scan(subject, part, image)


def pair(fixed: Scan, moving: Scan, subject: str = "") -> Pair:
    return Pair(fixed, moving, subject)


TRAINED = {"a": "training", "v": "validation"}


@pytest.mark.parametrize(
    ("fixed", "moving", "expected"),
    [
        (scan("1", "x"), scan("2", "y"), None),
        (scan("1", "a"), scan("2", "y"), "training"),
        (scan("1", "x"), scan("2", "a.nrrd"), "training"),  # half seen, and in another format
        (scan("1", "x"), scan("2", "v"), "validation"),
        (scan("1", "a"), scan("2", "v"), "training"),
        (scan("1", ""), scan("2", "y"), None),
    ],
)
def test_one_seen_image_is_enough(fixed: Scan, moving: Scan, expected: str | None) -> None:
    one = pair(fixed, moving)
    assert seen_pairs(TRAINED, [one], [one], contents) == ({one.name: expected} if expected else {})


def test_another_image_of_a_subject_that_was_seen_is_seen() -> None:
    """Also where the seen one is in a pair that is not to be evaluated."""
    left, right, other = scan("P", "left"), scan("P", "a"), scan("Q", "y")
    wanted = [pair(left, other)]
    every = [*wanted, pair(right, scan("R", "z"))]
    assert seen_pairs(TRAINED, wanted, every, contents) == {wanted[0].name: "training"}
    assert seen_pairs(TRAINED, wanted, wanted, contents) == {}


def test_the_subject_of_a_pair_counts_as_its_images_do() -> None:
    """Of a manifest whose images have no subject of their own."""
    first, second = pair(scan("x", "x"), scan("a", "a"), "S"), pair(scan("y", "y"), scan("z", "z"), "S")
    assert seen_pairs(TRAINED, [second], [first, second], contents) == {second.name: "training"}


def test_only_images_of_subjects_that_matter_are_read() -> None:
    read: list[str] = []

    def note(scan: Scan) -> str:
        read.append(scan.image)
        return scan.image

    wanted = pair(scan("1", "x"), scan("2", "y"))
    seen_pairs(TRAINED, [wanted], [wanted, pair(scan("3", "p"), scan("4", "q"))], note)
    assert set(read) == {"x", "y"}
    read.clear()
    seen_pairs({}, [wanted], [wanted], note)
    assert read == []


# -- models ------------------------------------------------------------------------------------------


def network(folder: Path, content: Mapping[str, object] | None, **more: int) -> NetworkMethod:
    card = CARD if content is None else {**CARD, "content": content}
    return NetworkMethod(make_model(folder / "tiny.safetensors", card=card), CPU, **more)


PAIRS = [pair(scan(str(k), image), scan(f"{k}'", f"other{k}")) for k, image in enumerate("axv")]


def test_what_a_model_has_seen_is_left_out_and_said(tmp_path: Path) -> None:
    model = network(tmp_path, content_entry(["a"], ["v"]))
    found = hold_out(PAIRS, PAIRS, [Identity(), model], contents, allow_seen=False)
    assert (found.pairs, found.left_out, found.seen) == ([PAIRS[1]], 2, {})
    (line,) = found.notes
    assert line.startswith("left out: 2 of 3 pairs (of 0, 0', 2, 2'): DLIR tiny was trained on, or chosen by, their")
    assert "--allow-seen" in line


def test_what_is_scored_nevertheless_is_marked_for_each_of_the_models_stages(tmp_path: Path) -> None:
    models = [network(tmp_path, content_entry(["a"], ["v"]), stages=k) for k in (1, 2)]
    found = hold_out(PAIRS, PAIRS, [Identity(), *models], contents, allow_seen=True)
    assert found.pairs == PAIRS
    names = [f"DLIR tiny DIR-{k}" for k in (1, 2)]
    marks = {PAIRS[0].name: "training", PAIRS[2].name: "validation"}
    assert found.seen == {(name, seen): how for name in names for seen, how in marks.items()}
    (line,) = found.notes
    assert line.startswith("not held out: 2 of 3 pairs")


def test_a_model_without_hashes_cannot_be_checked(tmp_path: Path) -> None:
    for content in (None, {"version": 0, "training": ["a"]}):
        found = hold_out(PAIRS, PAIRS, [network(tmp_path, content)], contents, allow_seen=False)
        assert (found.pairs, found.seen) == (PAIRS, {})
        (line,) = found.notes
        assert "cannot be checked" in line


def test_a_model_that_has_seen_nobody_needs_no_line(tmp_path: Path) -> None:
    found = hold_out(PAIRS, PAIRS, [network(tmp_path, content_entry(["q"], []))], contents, allow_seen=False)
    assert (found.pairs, found.notes, found.left_out) == (PAIRS, [], 0)


# -- files -------------------------------------------------------------------------------------------


def test_a_copy_under_another_name_and_in_another_format_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("one", "two", "three"):
        sitk.WriteImage(
            sitk.GetImageFromArray(rng.integers(0, 999, (4, 5, 6)).astype(np.int16)), f"{tmp_path}/{name}.nii"
        )
    seen = {content_hash(read_image(tmp_path / "one.nii").array): "training"}
    copy = sitk.Flip(sitk.Cast(sitk.ReadImage(str(tmp_path / "one.nii")), sitk.sitkFloat64), [True, False, False])
    sitk.WriteImage(copy, str(tmp_path / "copy.nrrd"))
    (tmp_path / "broken.nii").write_bytes(b"no image")
    table = tmp_path / "table.csv"
    table.write_text("fixed,moving\ntwo.nii,copy.nrrd\ntwo.nii,three.nii\nbroken.nii,two.nii\n")
    pairs = Manifest(table).pairs()
    assert seen_pairs(seen, pairs, pairs, reading_contents()) == {"copy-to-two": "training"}


def test_subjects_that_share_an_image_are_one() -> None:
    images = {"p": ["1", "2"], "q": ["3", "4"], "r": ["4", "5"], "s": ["6"], "t": ["5", "7"]}
    scans = [scan(subject, image, image) for subject, own in images.items() for image in own]
    assert same_subjects(ordered_pairs(scans), contents) == [["p"], ["q", "r", "t"], ["s"]]


# -- the models that ship ----------------------------------------------------------------------------


@pytest.mark.data
def test_the_cine_model_has_seen_the_first_eighty_hearts(shared_data: Path) -> None:
    images = read_header(resolve_model("cardiac-cine")).card["content"]
    assert len(images["training"]) + len(images["validation"]) > 200
    seen = {name: how for how in ("training", "validation") for name in images[how]}
    every = Acdc(shared_data / "acdc").pairs()
    wanted = [p for p in every if p.fixed.subject in ("patient001", "patient078", "patient081", "patient100")]
    assert seen_pairs(seen, wanted, every, reading_contents()) == {
        "patient001 ES-to-ED": "training",
        "patient001 ED-to-ES": "training",
        "patient078 ES-to-ED": "validation",
        "patient078 ED-to-ES": "validation",
    }


@pytest.mark.data
def test_the_hippocampus_model_is_tested_on_twelve_persons(shared_data: Path) -> None:
    model = NetworkMethod(resolve_model("hippocampus"), CPU)
    every = Decathlon(shared_data / "hippocampus").pairs()
    some = [p for p in every if p.fixed.part.endswith(("0", "5")) and p.moving.part.endswith(("0", "5"))]
    found = hold_out(some, some, [model], reading_contents(), allow_seen=False)
    left = {s.part for p in found.pairs for s in (p.fixed, p.moving)}
    assert left == {f"hippocampus_{n}" for n in (320, 325, 330, 335)}
