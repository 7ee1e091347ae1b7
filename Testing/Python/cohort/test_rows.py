"""Which pairs a table or a folder means, told without opening an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlir.cohort.choices import Pairing
from dlir.cohort.folder import Shard
from dlir.cohort.rows import Options, Row, Source
from dlir.data.pair import Pair, Scan
from dlir.errors import DLIRError, ImageNote, ManifestError, ModelError, OptionError


def pairs_of(source: Source) -> list[str]:
    return [f"{Path(row.pair.moving.image).name} {Path(row.pair.fixed.image).name}" for row in source.rows]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subjects of three images and of one; the images are empty, because nobody opens them."""
    for name in ("p1/a.nii", "p1/b.nii", "p1/b_label.nii", "p1/c.nii", "p2/a.nii"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "images"


def test_images_of_a_folder(folder: Path) -> None:
    assert pairs_of(Source(folder, Pairing.consecutive)) == ["b.nii a.nii", "c.nii b.nii"]
    assert pairs_of(Source(folder, Pairing.first)) == ["b.nii a.nii", "c.nii a.nii"]
    assert len(pairs_of(Source(folder, Pairing.all))) == 6
    assert pairs_of(Source(folder, onto=Path("p2/a.nii"))) == ["a.nii a.nii", "b.nii a.nii", "c.nii a.nii"]
    assert Source(folder, Pairing.first).rows[0].pair.moving.label.endswith("b_label.nii")


def test_images_of_a_table_are_in_order_of_time(tmp_path: Path) -> None:
    table = tmp_path / "images.csv"
    table.write_text("image,subject,time\nlate.nii,x,20\nearly.nii,x,1\n")
    assert pairs_of(Source(table, Pairing.consecutive)) == ["late.nii early.nii"]
    assert pairs_of(Source(table, onto=Path("late.nii"))) == ["early.nii late.nii"]


def test_what_makes_no_pair_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"say which .* consecutive \(2\), first \(2\), all \(6\)"):
        _ = Source(folder).rows
    with pytest.raises(OptionError, match=r"--to 'd\.nii' is no image of"):
        _ = Source(folder, onto=Path("d.nii")).rows
    with pytest.raises(OptionError, match="exclude each other"):
        _ = Source(folder, Pairing.all, Path("p2/a.nii")).rows
    with pytest.raises(ManifestError, match="holds no two images"):
        _ = Source(folder / "p2", Pairing.all).rows
    table = tmp_path / "pairs.csv"
    table.write_text("fixed,moving\na,b\n")
    with pytest.raises(OptionError, match="lists pairs; leave out --pairs and --to"):
        _ = Source(table, Pairing.all).rows
    with pytest.raises(ManifestError, match="cannot be read"):
        _ = Source(tmp_path / "none.csv").rows


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"model": "hart"}, ModelError),
        ({"refine": "ten"}, DLIRError),
        ({"model": "none", "refine": "off"}, OptionError),
        ({"model": "cardiac-cine", "kind": "rigid"}, OptionError),
        ({"similarity": "sad"}, DLIRError),
    ],
)
def test_options_that_hold_for_no_row_are_refused(options: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        Options(**options)  # type: ignore[arg-type]


def test_a_row_has_its_own_model_and_what_cannot_be_compared_is_told() -> None:
    pair = Pair(Scan("f", image="f", label="fl", mask="fm"), Scan("m", image="m"), model="none")
    with pytest.warns(ImageNote, match="the labels of the fixed image are not used"):
        request = Options(model="cardiac-cine").request(Row(1, "x", pair), Path("out"))
    assert (request.model, request.fixed_mask, request.fixed_labels) == ("none", "fm", ())


def test_parts_have_each_row_once() -> None:
    rows = [Row(number, "", Pair(Scan("f"), Scan("m"))) for number in range(1, 12)]
    parts = [Shard.parse(f"{i}/4").rows(rows) for i in range(1, 5)]
    assert sorted(row.number for part in parts for row in part) == list(range(1, 12))
    assert {len(part) for part in parts} == {2, 3}
    assert [row.number for row in Shard.parse("4/4").rows(rows)] == [4, 8]
    for wrong in ("0/4", "5/4", "1", "a/b", "1/0", "-1/2"):
        with pytest.raises(OptionError, match="give I/N"):
            Shard.parse(wrong)


def test_endings_in_capitals(tmp_path: Path) -> None:
    for name in ("a.NII.GZ", "b.NRRD", "b_label.NII", "b_landmarks.CSV", "c.nii"):
        (tmp_path / name).touch()
    rows = Source(tmp_path, Pairing.first).rows
    assert [row.name for row in rows] == ["b-to-a", "c-to-a"]
    assert Path(rows[0].pair.moving.label).name == "b_label.NII"
