"""Text transforms as other programs and people write them: all of what they say is done, or they are refused."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from chains import chain_grids, random_affine, random_bspline, sitk_apply
from dlir.errors import TransformError, notes_to
from dlir.transforms import files
from dlir.transforms.files import read_transform, to_sitk
from dlir.transforms.spatial import CompositeTransform
from grids import Array

HEAD = "#Insight Transform File V1.0\n"
SHIFT = "1 0 0 0 1 0 0 0 1 10 0 0"
TURN = "0 -1 0 1 0 0 0 0 1 0 20 0"
POINTS = np.array([[10.0, 20.0, 12.0], [0.0, 0.0, 0.0], [30.0, 15.0, 20.0]])
SHIFTED = POINTS + np.array([10, 0, 0])


def record(kind: str, parameters: str = SHIFT, fixed: str = "0 0 0") -> str:
    kind = kind if kind[-1].isdecimal() else f"{kind}_double_3_3"
    return f"#Transform 0\nTransform: {kind}\nParameters: {parameters}\nFixedParameters: {fixed}\n"


ONE, COMPOSITE = HEAD + record("AffineTransform"), record("CompositeTransform", "", "")


def write(folder: Path, text: str, name: str = "a.tfm") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def moved(path: Path) -> Array:
    """Where the points go, without anything to tell."""
    with notes_to(pytest.fail):
        return read_transform(path).apply(POINTS)


def refusal(path: Path) -> str:
    with pytest.raises(TransformError) as caught:
        read_transform(path)
    message = str(caught.value)
    assert message.startswith(f"transform '{path}' ")
    assert "\n" not in message
    return message


# -- several transforms ---------------------------------------------------------------------------------------------


def test_a_list_is_applied_as_a_composite_is_the_last_first(tmp_path: Path) -> None:
    parts = record("AffineTransform") + record("AffineTransform", TURN)
    composite = write(tmp_path, HEAD + COMPOSITE + parts, "composite.tfm")
    expected = sitk_apply([sitk.ReadTransform(str(composite))], POINTS)
    assert not np.allclose(expected, POINTS + np.array([10, 20, 0]))
    for path in (composite, write(tmp_path, HEAD + parts, "list.txt")):
        np.testing.assert_allclose(moved(path), expected, atol=1e-9)


def test_a_list_with_a_bspline_may_mean_two_things(tmp_path: Path) -> None:
    bspline = sitk.BSplineTransform(3, 3)
    sitk.WriteTransform(bspline, str(tmp_path / "a.tfm"))
    alone = (tmp_path / "a.tfm").read_text()
    assert moved(tmp_path / "a.tfm") == pytest.approx(POINTS)
    message = refusal(write(tmp_path, alone + record("AffineTransform")))
    assert "lists 2 transforms with a B-spline among them" in message
    assert "write them as one CompositeTransform" in message


@pytest.mark.parametrize("first", [COMPOSITE, record("AffineTransform")])
def test_a_composite_comes_first_or_not_at_all(tmp_path: Path, first: str) -> None:
    message = refusal(write(tmp_path, HEAD + first + COMPOSITE + record("AffineTransform")))
    assert "write all as one CompositeTransform" in message


def test_matlab_files_with_several(tmp_path: Path) -> None:
    path, other = tmp_path / "a.mat", tmp_path / "b.mat"
    sitk.WriteTransform(sitk.TranslationTransform(3, (10.0, 0.0, 0.0)), str(path))
    np.testing.assert_allclose(moved(path), SHIFTED)
    sitk.WriteTransform(sitk.ScaleTransform(3, (2.0, 3.0, 4.0)), str(other))
    path.write_bytes(path.read_bytes() + other.read_bytes())
    np.testing.assert_allclose(moved(path), POINTS * [2, 3, 4] + [10, 0, 0])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("precision", "kind"), [("f8", 0), ("f4", 10)])
def test_matlab_files_as_other_programs_write_them(tmp_path: Path, order: str, precision: str, kind: int) -> None:
    """Every prefix of them is refused."""
    data = b""
    for name, values in ((b"MatrixOffsetTransformBase_double_3_3\0", SHIFT), (b"fixed\0", "0 0 0.5")):
        numbers = np.array(values.split(), order + precision)
        data += struct.pack(order + "5i", kind + 1000 * (order == ">"), numbers.size, 1, 0, len(name)) + name
        data += numbers.tobytes()
    path = tmp_path / "a.mat"
    path.write_bytes(data)
    np.testing.assert_allclose(moved(path), SHIFTED)
    for end in range(len(data)):
        path.write_bytes(data[:end])
        assert "is damaged" in refusal(path)


def test_hdf5_files_with_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tool at hand writes one; SimpleITK's warning of it is what counts."""
    path = write(tmp_path, HEAD + record("AffineTransform") * 2)
    monkeypatch.setattr(files, "_text", lambda path: None)
    assert "holds several transforms, of which SimpleITK reads one" in refusal(path)


def test_composites_in_text_and_hdf5_are_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chain = CompositeTransform((random_bspline(rng, chain_grids(rng)[0]), random_affine(rng), random_affine(rng)))
    for name in ("a.tfm", "a.txt", "a.h5"):
        sitk.WriteTransform(to_sitk(chain), str(tmp_path / name))
        np.testing.assert_allclose(moved(tmp_path / name), chain.apply(POINTS), atol=1e-9)


# -- types ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("MatrixOffsetTransformBase", SHIFT),
        ("MatrixOffsetTransformBase_float_3_3", SHIFT),
        ("FixedCenterOfRotationAffineTransform", SHIFT),
        ("CenteredAffineTransform", "1 0 0 0 1 0 0 0 1 0 0 0 10 0 0"),
        ("ComposeScaleSkewVersor3DTransform", "0 0 0 10 0 0 1 1 1 0 0 0"),
        ("ScaleSkewVersor3DTransform", "0 0 0 10 0 0 1 1 1 0 0 0 0 0 0"),
        ("QuaternionRigidTransform", "0 0 0 1 10 0 0"),
        ("CenteredEuler3DTransform", "0 0 0 0 0 0 10 0 0"),
    ],
)
def test_linear_types_that_simpleitk_has_no_name_for(tmp_path: Path, kind: str, parameters: str, wrapped: bool) -> None:
    path = write(tmp_path, HEAD + (COMPOSITE if wrapped else "") + record(kind, parameters))
    np.testing.assert_allclose(moved(path), SHIFTED, atol=1e-9)


@pytest.mark.parametrize("partner", [sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), sitk.BSplineTransform(3, 3)])
@pytest.mark.parametrize("kind", ["MatrixOffsetTransformBase", "ComposeScaleSkewVersor3DTransform"])
def test_nameless_types_in_binary_files_are_read_or_refused_in_a_line(
    tmp_path: Path, kind: str, partner: sitk.Transform
) -> None:
    parameters = SHIFT if kind.startswith("Matrix") else "0 0 0 10 0 0 1 1 1 0 0 0"
    text = write(tmp_path, HEAD + COMPOSITE + record(kind, parameters))
    composite = sitk.CompositeTransform([sitk.ReadTransform(str(text)), partner])
    composite.FlattenTransform()
    sitk.WriteTransform(composite, str(tmp_path / "a.h5"))
    try:
        found = moved(tmp_path / "a.h5")
    except TransformError:
        assert "does not name; write it as an affine one" in refusal(tmp_path / "a.h5")
    else:
        np.testing.assert_allclose(found, sitk_apply([composite], POINTS), atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("AzimuthElevationToCartesianTransform", "holds a AzimuthElevation"),
        ("TimeVaryingVelocityFieldTransform", "Transform; DLIR reads linear ones, cubic B-splines and displacement"),
        ("BSplineDeformableTransform", "convert it first"),
        ("AffineTransform_double_2_2", "not three-dimensional"),
        ("Affine", "damaged|unknown|holds a Affine"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_types_that_are_not_read(tmp_path: Path, kind: str, words: str, wrapped: bool) -> None:
    message = refusal(write(tmp_path, HEAD + (COMPOSITE if wrapped else "") + record(kind)))
    assert any(word in message for word in words.split("|"))


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize(
    "kind", ["VersorRigid3DTransform", "TranslationTransform", "ScaleTransform", "BSplineTransform", "a field"]
)
def test_the_numbers_are_counted(tmp_path: Path, kind: str, change: int) -> None:
    """ITK reads past the end of too few of them, and passes over what is too many."""
    made = {
        "BSplineTransform": lambda: sitk.BSplineTransform(3, 3),
        "VersorRigid3DTransform": sitk.VersorRigid3DTransform,
        "a field": lambda: sitk.DisplacementFieldTransform(sitk.Image([2, 3, 4], sitk.sitkVectorFloat64)),
    }
    transform = made.get(kind, lambda: getattr(sitk, kind)(3))()
    sitk.WriteTransform(transform, str(tmp_path / "whole.tfm"))
    moved(tmp_path / "whole.tfm")
    for tag in ("Parameters", "FixedParameters"):
        lines = (tmp_path / "whole.tfm").read_text().splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{tag}:"))
        words = lines[at].split(" ")
        lines[at] = " ".join(words[:-1] if change < 0 else [*words, "1"])
        if lines[at].rstrip() != "FixedParameters:":
            assert f"{tag} instead of" in refusal(write(tmp_path, "\n".join(lines) + "\n"))


# -- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        ONE + "\n\n",
        ONE + "# made by hand\n",
        ONE + "# made by hand",
        ONE.replace("#Transform 0\n", ""),
        ONE.replace("\n", "\r\n"),
        ONE.replace("\n", "\n\n# a comment\n"),
        ONE.removeprefix(HEAD),
        "\ufeff" + ONE,
        "  " + ONE.replace("\nParameters", "\n Parameters").replace(" 10", "\t10"),
        HEAD + "Transform: AffineTransform_double_3_3\nFixedParameters: 0 0 0\nParameters: " + SHIFT + "\n",
    ],
)
def test_files_edited_by_hand(tmp_path: Path, text: str) -> None:
    np.testing.assert_allclose(moved(write(tmp_path, text)), SHIFTED)


def test_an_end_without_a_line_break_is_read_and_told(tmp_path: Path) -> None:
    """Whether its last number is whole, nobody can know."""
    told: list[str] = []
    path = write(tmp_path, ONE.rstrip())
    with notes_to(told.append):
        np.testing.assert_allclose(read_transform(path).apply(POINTS), SHIFTED)
    assert told == [f"transform '{path}' ends without a line break; make sure that its last number is whole"]


@pytest.mark.parametrize("name", ["a.tfm", "a.txt", "a.TXT", "a.mat"])
def test_every_cut_is_refused_or_told(tmp_path: Path, name: str) -> None:
    text = HEAD + COMPOSITE + record("AffineTransform") + record("AffineTransform", TURN, "0 0 12.5")
    whole = moved(write(tmp_path, text, name))
    between = text.rindex("#Transform")  # here the file ends as one of a single transform does
    for end in [*range(between), *range(between + 1, len(text))]:
        told: list[str] = []
        with suppress(TransformError), notes_to(told.append):
            read_transform(write(tmp_path, text[:end], name))
            assert told, text[:end]
    np.testing.assert_array_equal(moved(write(tmp_path, text, name)), whole)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ONE.replace("10 0", "10,5 0"), "'10,5' in its AffineTransform is not a number"),
        (ONE.replace("FixedParameters: 0 0 0\n", ""), "a line is missing"),
        (ONE.replace("FixedParameters: 0 0 0\n", "") + record("AffineTransform"), "a line is missing"),
        (HEAD + "Transform: CompositeTransform_double_3_3\n", "its end is missing"),
        (ONE.replace("Parameters: 1", "ComponentTransformFile: b.tfm\nParameters: 1"), "line 4, 'ComponentTransformF"),
        ('(Transform "EulerTransform")\n(NumberOfParameters 6)\n', "is a parameter file of elastix"),
        ("1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "is a plain matrix, as FSL, greedy and c3d write"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(write(tmp_path, text, "TransformParameters.0.txt"))


def test_files_of_other_programs(tmp_path: Path) -> None:
    minc = "MNI Transform File\nTransform_Type = Linear;\nLinear_Transform =\n 1 0 0 5\n 0 1 0 0\n 0 0 1 0;\n"
    assert "is a file of MINC" in refusal(write(tmp_path, minc, "a.xfm"))
    assert "plain matrix" in refusal(write(tmp_path, "1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "fsl.mat"))


# -- the cases that were found --------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shift"),
    [
        ("03_several_transforms_in_one_file/two.tfm", (10, 20, 0)),
        ("03_several_transforms_in_one_file/composite.tfm", (10, 20, 0)),
        ("03_several_transforms_in_one_file/bspline_bulk.tfm", None),
        ("11_matrix_offset_transform_base/MatrixOffsetTransformBase_double_3_3.txt", (10, 0, 0)),
        ("11_matrix_offset_transform_base/ComposeScaleSkewVersor3DTransform_double_3_3.txt", (10, 0, 0)),
        ("19_transform_without_final_newline/one.tfm", (10, 0, 0)),
        ("19_transform_without_final_newline/no_newline.tfm", (10, 0, 0)),
        ("19_transform_without_final_newline/blank_end.tfm", (10, 0, 0)),
        ("19_transform_without_final_newline/comment_end.tfm", (10, 0, 0)),
    ],
)
def test_cases(shared_cases: Path, name: str, shift: tuple[float, ...] | None) -> None:
    if shift is None:
        assert "with a B-spline among them" in refusal(shared_cases / name)
    else:
        with notes_to(lambda told: None):
            np.testing.assert_allclose(read_transform(shared_cases / name).apply(POINTS), POINTS + shift)
