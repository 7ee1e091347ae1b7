"""The one table of pairs and images: what it may say, in which formats, and how each wrong form is refused."""

from __future__ import annotations

import csv
import io
import json
import string
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlir.data.manifest import Manifest, read_manifest
from dlir.data.pair import Pair, Scan, select
from dlir.errors import ConfigError, DLIRError, EvaluationError, ManifestError
from evaluation_runs import write_phase
from training_runs import SHAPE, write_volume


def write(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def as_lines(rows: list[dict[str, Any]], separator: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(c for row in rows for c in row)), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# -- what a row says ----------------------------------------------------------------------------------


def test_a_pair_with_all_that_can_be_said_of_it(tmp_path: Path) -> None:
    row = {f"{role}{kind}": f"{role}{kind}" for kind in ("", "_label", "_mask", "_landmarks") for role in ROLES}
    more = {"subject": "Ann", "group": "follow-up", "split": "Test", "model": "lung"}
    (pair,) = read_manifest(write(tmp_path, as_lines([{**row, **more}], ",")))
    fixed, moving = (
        Scan("Ann", role, *(str(tmp_path / f"{role}{kind}") for kind in ("", "_label", "_mask", "_landmarks")))
        for role in ROLES
    )
    assert pair == Pair(fixed, moving, "Ann", "follow-up", "test", "lung")


ROLES = ("fixed", "moving")


def test_an_image_with_all_that_can_be_said_of_it(tmp_path: Path) -> None:
    text = "image,label,mask,subject,time,split\ncine.nii.gz#7,l.nrrd,m.nrrd,Ann,.5,train\n/far/b.mha,,,,,\n"
    image, label, mask = (str(tmp_path / name) for name in ("cine.nii.gz#7", "l.nrrd", "m.nrrd"))
    assert read_manifest(write(tmp_path, text)) == [
        Scan("Ann", "cine", image, label, mask, time=0.5, split="train"),
        Scan("", "b", str(tmp_path / "/far/b.mha")),
    ]


@pytest.mark.parametrize(
    ("columns", "fixed", "moving", "subject"),
    [
        ({}, "a", "b", ""),
        ({"subject": "x"}, "x a", "x b", "x"),
        ({"fixed_subject": "x", "moving_subject": "x"}, "x a", "x b", "x"),
        ({"fixed_subject": "x", "moving_subject": "y"}, "x a", "y b", ""),
        ({"subject": "x", "moving_subject": "y"}, "x a", "y b", "x"),
    ],
)
def test_whose_a_pair_is(tmp_path: Path, columns: dict[str, str], fixed: str, moving: str, subject: str) -> None:
    path = write(tmp_path, as_lines([{"fixed": "p/a.nrrd", "moving": "p/b.nrrd", **columns}], ","))
    (pair,) = Manifest(path).pairs()
    assert (pair.fixed.name, pair.moving.name, pair.subject) == (fixed, moving, subject)


def test_a_row_without_a_split_goes_with_its_subject(tmp_path: Path) -> None:
    """Through pairs of two subjects too: nobody who is tested on is trained with unseen."""
    text = "image,subject,split\na,x,\nb,y,\nc,x,test\nd,,\n"
    assert [row.split for row in read_manifest(write(tmp_path, text))] == ["test", "", "test", ""]
    text = "fixed,moving,fixed_subject,moving_subject,split\na,b,x,y,\nc,d,z,w,\ne,f,y,v,\ng,h,v,v,validation\n"
    assert [row.split for row in read_manifest(write(tmp_path, text))] == ["validation", "", "validation", "validation"]


# -- formats ------------------------------------------------------------------------------------------

WORDS = st.text(string.ascii_letters + string.digits + "äß漢 .#'\"/,;\t-", min_size=1).map(str.strip).filter(bool)
ROWS = st.lists(st.fixed_dictionaries({"fixed": WORDS, "moving": WORDS, "subject": st.just("") | WORDS}), min_size=1)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_every_format_says_the_same(rows: list[dict[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        first = read_manifest(write(root, as_lines(rows, ",")))
        assert [Path(row.fixed.image) for row in first if isinstance(row, Pair)] == [root / r["fixed"] for r in rows]
        for separator, name in (("\t", "t.tsv"), (";", "t.csv"), ("\t", "t.csv")):
            assert read_manifest(write(root, as_lines(rows, separator), name)) == first
        assert read_manifest(write(root, json.dumps(rows, ensure_ascii=False), "t.json")) == first
        sparse = [{k: v or None for k, v in row.items() if v or k == "subject"} for row in rows]
        assert read_manifest(write(root, "\ufeff" + json.dumps(sparse), "t.json")) == first
        for encoding in ("utf-8-sig", "utf-16"):
            (root / "t.csv").write_bytes(as_lines(rows, "\t").encode(encoding))
            assert read_manifest(root / "t.csv") == first


def test_numbers_in_json_need_no_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, '[{"image": "a", "subject": 12, "time": 0.5}, {"image": "b", "time": null}]', "t.json")
    assert read_manifest(path)[0] == Scan("12", "a", str(tmp_path / "a"), time=0.5)


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    assert len(read_manifest(write(tmp_path, "\nimage,mask\n\na.nrrd,\n,\n\nb.nrrd\n"))) == 2


@pytest.mark.parametrize(
    "content",
    [
        "image,subject\na.nrrd,x\nb.nrrd,Grün\n".encode("latin-1"),
        "image,subject\na.nrrd,x\n".encode("utf-16-le"),  # without its mark
        "image,subject\na.nrrd,x\n".encode("utf-32"),
    ],
)
def test_another_encoding_is_called_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=r"t\.csv', line [13]: .* encoding is not UTF-8 .*'CSV UTF-8'") as caught:
        read_manifest(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


# -- wrong forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "fixed,moving,moving_lable\na,b,c\n",
            "line 1: column 'moving_lable' is unknown (did you mean 'moving_label'?)",
        ),
        ("\nImage\na\n", "line 2: column 'Image' is unknown (did you mean 'image'?)"),
        ("fixed,moving,label\na,b,c\n", "column 'label' is unknown (did you mean 'fixed_label'?)"),
        ("image,model\na,b\n", "column 'model' is unknown; give the columns fixed and moving for pairs, or image"),
        ("fixed,moving,image\na,b,c\n", "it has the columns fixed, of pairs, and image, of images; list one kind"),
        ("image,image\na,b\n", "line 1: it names the column 'image' twice; leave one out"),
        ("fixed\na\n", "it lacks a column: listed pairs need fixed and moving"),
        ("subject\na\n", "it lacks a column: give the columns fixed and moving for pairs, or image for images"),
        ("", "it lacks a column"),
        ("image\n", "it has no row; below the columns fixed and moving for pairs, or image for images, give one"),
        ("image,mask\na,b\n ,b\n", "line 3: 'image' is empty; name an image"),
        ("fixed,moving\na\n", "line 2: 'moving' is empty; name an image"),
        ('image,mask\n"a\nb",\nc,d,e\n', "line 4: it has more entries than the first line names columns"),
        (
            "image,split\na,tset\n",
            "line 2: split 'tset' is neither train nor validation nor test (did you mean 'test'?)",
        ),
        ("image,subject,split\na,x,test\nb,x,train\n", "line 3: subject 'x' is in train and in test; choose one"),
        (
            "fixed,moving,fixed_subject,moving_subject,split\na,b,x,y,train\nb,c,y,z,validation\n",
            "line 3: subject 'y' is in train and in validation; choose one",
        ),
        (
            "fixed,moving,fixed_subject,moving_subject,split\na,b,x,x,train\nb,c,y,y,test\na,b,x,y,\n",
            "subject 'y' is in train and in test; choose one",
        ),
        ("image,time\na,late\n", "line 2: time 'late' is no number; give seconds"),
        ("image,time\na,nan\n", "line 2: time 'nan' is no number; give seconds"),
        ('image\n"' + "a" * 140000 + '"\n', "it cannot be read (field larger than field limit"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(f"manifest '{path}'")
    assert words in message
    assert "\n" not in message
    assert isinstance(caught.value, ConfigError)  # those who catch errors of training data, or of data sets
    assert isinstance(caught.value, EvaluationError)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is not valid JSON"),
        ("[" * 100000, "it is not valid JSON"),
        ('{"image": "a"}', "it is no list; give a JSON list with an object for each pair or image"),
        ('["a"]', "entry 1: it is no object; give one whose keys are the columns"),
        ('[{"image": "a"}, {"image": ["b"]}]', "entry 2: 'image' is neither text nor a number; correct it"),
        ('[{"image": true}]', "entry 1: 'image' is neither text nor a number"),
        ('[{"image": "a"}, {"image": "b", "maks": "c"}]', "entry 2: column 'maks' is unknown (did you mean 'mask'?)"),
        ('[{"image": "a"}, {"mask": "c"}]', "entry 2: 'image' is empty; name an image"),
        ("[]", "it lacks a column"),
    ],
)
def test_a_wrong_json_list_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(write(tmp_path, text, "t.json"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | st.text("fixedmovngag,;\t\n\"'[]{}:0 ", max_size=60).map(str.encode))
def test_whatever_a_file_holds_it_is_read_or_refused(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        for name in ("t.csv", "t.json"):
            path = Path(folder) / name
            path.write_bytes(content)
            try:
                assert read_manifest(path)
            except DLIRError as error:
                if str(path) not in str(error) or len(str(error).splitlines()) != 1:
                    raise


# -- images that make pairs ---------------------------------------------------------------------------


def write_five(folder: Path) -> None:
    for name in "abcde":
        write_volume(folder / f"{name}.nii.gz", np.random.default_rng(0).random(SHAPE))


def test_images_of_a_subject_make_pairs_both_ways_in_order_of_time(tmp_path: Path) -> None:
    write_five(tmp_path)
    text = "image,subject,time,split\nb.nii.gz,x,10,test\na.nii.gz,x,9,\nc.nii.gz,y,,\nd.nii.gz,y,,\ne.nii.gz,z,,\n"
    pairs = Manifest(write(tmp_path, text)).pairs()
    assert [pair.name for pair in pairs] == ["x b-to-a", "x a-to-b", "y d-to-c", "y c-to-d"]
    assert [pair.split for pair in pairs] == ["test", "test", "", ""]


def test_single_images_make_pairs_within_a_split(tmp_path: Path) -> None:
    write_five(tmp_path)
    text = "image,subject,split\na.nii.gz,x,test\nb.nii.gz,,train\nc.nii.gz,z,test\nd.nii.gz,,train\ne.nii.gz,,\n"
    pairs = Manifest(write(tmp_path, text)).pairs()
    assert [pair.name for pair in pairs] == ["z c-to-x a", "x a-to-z c", "d-to-b", "b-to-d"]
    assert [pair.split for pair in pairs] == ["test", "test", "train", "train"]


def test_a_file_of_several_phases_is_a_subject(tmp_path: Path) -> None:
    write_volume(tmp_path / "cine.nii.gz", np.random.default_rng(0).random((3, *SHAPE)))
    path = write(tmp_path, "image,label,subject\ncine.nii.gz,gt.nii.gz,\n")
    names = ["cine 1-to-0", "cine 0-to-1", "cine 2-to-0", "cine 0-to-2", "cine 2-to-1", "cine 1-to-2"]
    pairs = Manifest(path).pairs()
    assert [pair.name for pair in pairs] == names
    assert pairs[0].moving == Scan("cine", "1", str(tmp_path / "cine.nii.gz#1"), str(tmp_path / "gt.nii.gz#1"))
    pairs = Manifest(write(tmp_path, "image,subject\ncine.nii.gz,Ann\n")).pairs()
    assert [pair.name for pair in pairs[:2]] == ["Ann cine#1-to-cine#0", "Ann cine#0-to-cine#1"]


def test_an_image_that_is_not_there_is_a_problem_of_its_pairs(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", np.random.default_rng(0).random(SHAPE))
    first, second = Manifest(write(tmp_path, "image\na.nii.gz\nlost.nii.gz\n")).pairs()
    assert first.fixed.read_image().array.shape == SHAPE
    with pytest.raises(EvaluationError, match=r"lost\.nii\.gz' does not exist"):
        second.fixed.read_image()


def test_one_image_makes_no_pair(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", np.random.default_rng(0).random(SHAPE))
    with pytest.raises(EvaluationError, match="lists no two images of one kind"):
        Manifest(write(tmp_path, "image\na.nii.gz\na.nii.gz\n")).pairs()


# -- pairs to be evaluated ----------------------------------------------------------------------------

COLUMNS = "fixed,moving,fixed_label,moving_label,fixed_landmarks,moving_landmarks,fixed_subject,moving_subject"


def test_a_table_names_pairs_and_what_belongs_to_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_phase(tmp_path / "data" / name, np.zeros(3))
    files = ",".join(f"data/{n}{kind}" for kind in (".nrrd", "_label.nrrd", "_landmarks.csv") for n in ("a", "b"))
    (tmp_path / "study.csv").write_text(f"{COLUMNS}\n{files},Ann,Ann\n")
    data = Manifest(tmp_path / "study.csv")
    assert data.title == "study"
    (pair,) = data.pairs()
    assert pair.name == "Ann b-to-a"
    image = pair.moving.read_image()
    assert pair.moving.read_label(image) is not None
    assert pair.moving.read_landmarks(image) is not None


def test_a_table_of_pairs_alone(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("fixed,moving\nx/a.nii.gz,x/b.nii.gz\n")
    (first,) = Manifest(tmp_path / "t.csv").pairs()
    assert first.name == "b-to-a"
    assert first.fixed.label == ""
    (tmp_path / "t.csv").write_text("fixed,moving\nx/a.nii.gz,x/b.nii.gz\n,x/b.nii.gz\n")
    with pytest.raises(EvaluationError, match="line 3: 'fixed' is empty; name an image"):
        Manifest(tmp_path / "t.csv").pairs()


def test_images_of_one_name_in_different_folders_are_told_apart(tmp_path: Path) -> None:
    rows = ["fixed,moving", "p1/ed.nrrd,p1/es.nrrd", "p2/ed.nrrd,p2/es.nrrd", "p2/cine.nii.gz#0,p2/cine.nii.gz#7"]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    assert [pair.name for pair in select(Manifest(tmp_path / "t.csv").pairs())] == [
        "p1/es.nrrd-to-p1/ed.nrrd",
        "p2/es.nrrd-to-p2/ed.nrrd",
        "p2/cine.nii.gz#7-to-p2/cine.nii.gz#0",
    ]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "fixed,moving\n"])
def test_a_table_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(EvaluationError, match="columns fixed and moving"):
        Manifest(tmp_path / "t.csv").pairs()


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read"):
        Manifest(tmp_path / "t.csv").pairs()


@pytest.mark.data
def test_the_real_lung_and_its_landmarks(shared_data: Path, tmp_path: Path) -> None:
    lung = shared_data / "lung_ct"
    row = [f"{lung}/{n}{kind}" for kind in (".mha", "_mask.mha", "_landmarks.txt") for n in ("baseline", "followup")]
    head = "fixed,moving,fixed_mask,moving_mask,fixed_landmarks,moving_landmarks"
    (tmp_path / "lung.csv").write_text(f"{head}\n{','.join(row)}\n")
    (pair,) = Manifest(tmp_path / "lung.csv").pairs()
    fixed, moving = pair.fixed.read_image(), pair.moving.read_image()
    a, b = pair.fixed.read_landmarks(fixed), pair.moving.read_landmarks(moving)
    assert a is not None
    assert b is not None
    assert len(a.points) == len(b.points) == 10
    assert np.linalg.norm(a.points - b.points, axis=1).mean() == pytest.approx(35, abs=15)  # far apart in the scanner
    mask = pair.fixed.read_mask(fixed)
    assert mask is not None
    index = np.rint(fixed.grid.to_index(a.points)).astype(int)
    assert all(mask.array[k, j, i] for i, j, k in index)  # the landmarks lie in the lung
