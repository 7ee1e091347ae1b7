"""A whole cine: the files agree with each other, with what a pair of phases gives, and with what is reported."""

from __future__ import annotations

import csv
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import cine_files as tiny
from cli_runs import make_model, snapshot
from disks import small_disk
from dlir.cohort.cine.register import FinishedCine, register_cine
from dlir.cohort.cine.request import CineRequest
from dlir.errors import DLIRError, GeometryError, ImageError, ImageNote, OptionError, OutputError
from dlir.io import read_label
from dlir.io.reading import Volume
from dlir.io.sequences import ImageSequence, read_sequence
from dlir.registration.pipeline import run
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.session import Session
from dlir.transforms.files import read_transform
from segment_files import save_segmentation

REFERENCE = 1
VOXEL_ML = float(np.prod(tiny.GRID.spacing)) / 1000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", scale=5.0))


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


@pytest.fixture(scope="module")
def cine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_sequence(tmp_path_factory.mktemp("cine") / "cine.nii.gz", tiny.images())


@pytest.fixture(scope="module")
def label(cine: Path) -> Path:
    """Drawn on the reference."""
    return tiny.write_label(cine.with_name("label.nii.gz"), tiny.labels()[REFERENCE])


@pytest.fixture(scope="module")
def finished(
    cine: Path, label: Path, model: str, session: Session, tmp_path_factory: pytest.TempPathFactory
) -> FinishedCine:
    folder = tmp_path_factory.mktemp("result")
    return register_cine(CineRequest(str(cine), str(folder), REFERENCE, str(label), model=model), session)


@pytest.fixture
def asked(cine: Path, label: Path, model: str, tmp_path: Path) -> CineRequest:
    return CineRequest(str(cine), str(tmp_path / "result"), REFERENCE, str(label), model=model, cycle=False)


def volumes_of(labels: NDArray[np.generic]) -> list[dict[str, float]]:
    return [{str(v): VOXEL_ML * int(np.count_nonzero(layer == v)) for v in (1, 2)} for layer in labels]


# -- what is written ----------------------------------------------------------------------------------


def test_the_files_are_those_of_the_report(finished: FinishedCine) -> None:
    folder = Path(finished.files["report"]).parent
    assert json.loads(Path(finished.files["report"]).read_text()) == finished.report
    assert {path.name for path in folder.iterdir()} == set(finished.report["outputs"].values())
    assert set(finished.report["outputs"].values()) == {
        "warped.nii.gz",
        "jacobian.nii.gz",
        "labels.nii.gz",
        *(f"transform_{phase:02d}.h5" for phase in range(4)),
        "volumes.csv",
        "ejection.csv",
        "volumes.png",
        "report.json",
    }
    assert (folder / "volumes.png").read_bytes().startswith(b"\x89PNG")


def test_every_phase_is_what_the_pair_gives(
    finished: FinishedCine, cine: Path, label: Path, model: str, session: Session
) -> None:
    warped, jacobian, labels = (tiny.read_4d(finished.files[key]) for key in ("warped", "jacobian", "labels"))
    for phase in (0, 2, 3):
        request = RegistrationRequest(
            f"{cine}#{REFERENCE}",
            f"{cine}#{phase}",
            None,
            model=model,
            backward_labels=(str(label),),
        )
        pair = run(request, session)
        np.testing.assert_array_equal(warped[phase], pair.result.warped)
        np.testing.assert_array_equal(jacobian[phase], pair.result.jacobian)
        np.testing.assert_array_equal(labels[phase], pair.propagated.backward[0])
        points = tiny.GRID.voxel_centers()[::3, ::4, ::5].reshape(-1, 3)
        for transform in (finished.transforms[phase], read_transform(Path(finished.files[f"transform_{phase}"]))):
            np.testing.assert_allclose(transform.apply(points), pair.result.transform.apply(points), atol=1e-6)
        entry = finished.report["phases"][phase]
        for key in ("verdict", "similarity", "jacobian", "initialization", "refinement", "inverse"):
            assert entry[key] == pair.report[key], key


def test_the_reference_stays_as_it_is(finished: FinishedCine, label: Path) -> None:
    warped, jacobian, labels = (tiny.read_4d(finished.files[key]) for key in ("warped", "jacobian", "labels"))
    np.testing.assert_array_equal(warped[REFERENCE], tiny.images()[REFERENCE])
    assert (jacobian[REFERENCE] == 1).all()
    np.testing.assert_array_equal(labels[REFERENCE], tiny.labels()[REFERENCE])
    points = tiny.GRID.voxel_centers().reshape(-1, 3)
    stored = read_transform(Path(finished.files[f"transform_{REFERENCE}"]))
    np.testing.assert_allclose(stored.apply(points), points, atol=1e-9)
    entry = finished.report["phases"][REFERENCE]
    assert set(entry) == {"phase", "time_s", "volumes_ml"}


def test_places_and_times_are_those_of_the_cine(finished: FinishedCine) -> None:
    for key in ("warped", "jacobian", "labels"):
        found = read_sequence(finished.files[key])
        assert found.grid.same_as(tiny.GRID)
        np.testing.assert_allclose(found.seconds or (), tiny.SECONDS, atol=1e-7)


def test_volumes_are_those_of_the_labels(finished: FinishedCine) -> None:
    counted = volumes_of(tiny.read_4d(finished.files["labels"]))
    with Path(finished.files["volumes"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["0", "1", "2", "3"]
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], tiny.SECONDS)
    for number, volumes in enumerate(counted):
        assert finished.volumes[number] == pytest.approx(volumes)
        for name, ml in volumes.items():
            assert float(rows[number][f"{name}_ml"]) == pytest.approx(ml, abs=1e-4)
            assert finished.report["phases"][number]["volumes_ml"][name] == pytest.approx(ml, abs=1e-4)
    with Path(finished.files["ejection"]).open(newline="") as file:
        found = {row["name"]: row for row in csv.DictReader(file)}
    for name, row in found.items():
        own = [volumes[name] for volumes in counted]
        assert float(row["ejection_percent"]) == pytest.approx(100 * (max(own) - min(own)) / max(own), abs=1e-3)
        assert int(row["largest_phase"]) == own.index(max(own))


def test_the_verdict_is_that_on_the_worst_phase(finished: FinishedCine) -> None:
    levels = ["good", "check", "failed"]
    worst = max((entry["verdict"] for entry in finished.report["phases"] if "verdict" in entry), key=_level(levels))
    told = finished.report["verdict"]
    assert told["level"] == worst["level"] != "good"  # its networks are random
    number = int(told["reason"].removeprefix("Phase ").partition(":")[0])
    assert finished.report["phases"][number]["verdict"]["reason"] in told["reason"]


def _level(levels: list[str]):  # type: ignore[no-untyped-def]
    return lambda verdict: levels.index(verdict["level"])


def test_the_cycle_is_measured_in_the_label(finished: FinishedCine) -> None:
    cycle = finished.report["cycle"]
    assert (cycle["where"], cycle["points"]) == ("label", np.count_nonzero(tiny.labels()[REFERENCE]))
    assert 0 < cycle["mean_mm"] <= cycle["percentile95_mm"] <= cycle["max_mm"]
    assert len(cycle["links_mm"]) == 4
    assert cycle["links_mm"][REFERENCE] == 0  # that link is the map from the reference itself


def test_a_sequence_of_slicer_gives_sequences_of_slicer(
    asked: CineRequest, session: Session, finished: FinishedCine, tmp_path: Path
) -> None:
    path = tiny.write_sequence(tmp_path / "cine.seq.nrrd", tiny.images())
    other = register_cine(replace(asked, cine=str(path)), session)
    for key in ("warped", "jacobian", "labels"):
        assert other.report["outputs"][key] == f"{key}.seq.nrrd"
        assert read_sequence(other.files[key]).seconds == tiny.SECONDS
        # A NIfTI header is of single precision.
        same = np.isclose(tiny.read_4d(other.files[key]), tiny.read_4d(finished.files[key]), atol=1e-3)
        assert same.mean() > 0.999
    assert other.report["cycle"] is None


def test_a_cine_in_memory_without_a_label(asked: CineRequest, session: Session) -> None:
    sequence = ImageSequence(tiny.images(), tiny.GRID, "my cine")
    done = register_cine(replace(asked, cine=sequence, label=None, format="nii.gz"), session)
    assert done.report["outputs"]["warped"] == "warped.nii.gz"  # where nothing is said, .seq.nrrd
    assert done.volumes == []
    assert done.report["label"] is None
    assert done.report["ejection"] == []
    assert not {"labels", "volumes", "figure"} & set(done.report["outputs"])
    assert done.report["cine"]["file"] == "my cine"
    assert done.report["cine"]["seconds"] is None
    assert {entry["time_s"] for entry in done.report["phases"]} == {None}


def test_without_matplotlib_the_figure_is_left_out(
    asked: CineRequest, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.warns(ImageNote, match="volumes.png is left out, because matplotlib is not installed"):
        done = register_cine(asked, session)
    assert "figure" not in done.report["outputs"]
    assert {path.name for path in Path(asked.folder).iterdir()} == set(done.report["outputs"].values())
    assert any("matplotlib" in line for line in done.report["notes"])


@pytest.mark.slow
def test_without_a_model_a_beating_body_is_followed(asked: CineRequest, session: Session) -> None:
    sizes = (1.0, 0.8)
    drawn = Volume(tiny.labels(sizes)[0], tiny.GRID, "drawn")
    sequence = ImageSequence(tiny.images(sizes), tiny.GRID, "cine")
    request = replace(asked, cine=sequence, reference=0, label=drawn, model="none", refine="8it", cycle=None)
    done = register_cine(request, session)
    assert done.report["cycle"] is None  # it would take as long again
    large, small = (sum(row.values()) for row in volumes_of(tiny.labels(sizes)))
    drawn_ml, carried_ml = (sum(row.values()) for row in done.volumes)
    assert drawn_ml == pytest.approx(large)
    assert abs(carried_ml - small) < 0.35 * (large - small)  # so many steps do not find all of it


def test_end_diastole_that_is_looked_for_becomes_the_reference(
    asked: CineRequest,
    session: Session,
    finished: FinishedCine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Where the label is largest; the results are those of a run that knew it."""
    registered: list[str] = []

    def counted(request: RegistrationRequest, *rest: object) -> object:
        assert isinstance(request.fixed, Volume)
        registered.append(request.fixed.source[-2:])
        return run(request, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("dlir.cohort.cine.register.run", counted)
    for found, passes in ((2, ["#1"] * 3 + ["#2"] * 3), (REFERENCE, ["#1"] * 3)):
        monkeypatch.setattr("dlir.cohort.cine.register.heart_phases", lambda volumes, found=found: (found, 0))
        registered.clear()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            looked = register_cine(replace(asked, reference="ed", label_phase=REFERENCE, overwrite=True), session)
        assert registered == passes
        assert [str(one.message) for one in told] == (
            ["the label was drawn on phase 1; end-diastole, the reference, is phase 2"] if found != REFERENCE else []
        )
        assert looked.report["reference"] == found
        knew = replace(asked, reference=found, label_phase=REFERENCE, folder=str(tmp_path / "knew"))
        known = finished if found == REFERENCE else register_cine(knew, session)
        for key in ("warped", "jacobian", "labels"):
            np.testing.assert_array_equal(tiny.read_4d(looked.files[key]), tiny.read_4d(known.files[key]))
        assert looked.volumes == known.volumes


@pytest.mark.parametrize(("label_phase", "order"), [(1, [3, 0, 2]), (3, [3, 0, 2]), (2, [3, 2, 0, 3])])
def test_a_model_is_chosen_for_the_phase_half_a_cycle_away(
    asked: CineRequest,
    session: Session,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    label_phase: int,
    order: list[int],
) -> None:
    """And serves all: neighbours look alike to any model."""
    registered: list[tuple[str, int]] = []

    def counted(request: RegistrationRequest, *rest: object) -> object:
        assert isinstance(request.moving, Volume)
        registered.append((request.model, int(request.moving.source[-1])))
        chosen = replace(request, model=model) if request.model == "auto" else request
        return run(chosen, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("dlir.cohort.cine.register.run", counted)
    monkeypatch.setenv("DLIR_MODELS", str(Path(model).parent))
    register_cine(replace(asked, model="auto", label_phase=label_phase), session)
    assert [moving for _, moving in registered] == order
    assert [name for name, _ in registered] == ["auto", *["tiny"] * (len(order) - 1)]


# -- labels -------------------------------------------------------------------------------------------


def test_a_label_of_another_phase_comes_by_the_maps_of_the_reference(
    asked: CineRequest, session: Session, cine: Path, model: str
) -> None:
    drawn = Volume(tiny.labels()[3], tiny.GRID, "drawn")
    done = register_cine(replace(asked, label=drawn, label_phase=3), session)
    labels = tiny.read_4d(done.files["labels"])
    np.testing.assert_array_equal(labels[3], drawn.array)
    way = RegistrationRequest(f"{cine}#{REFERENCE}", f"{cine}#3", None, model=model, moving_labels=(drawn,))
    (there,) = run(way, session).propagated.after
    np.testing.assert_array_equal(labels[REFERENCE], there)
    moved = Volume(there, tiny.GRID, "moved")
    further = RegistrationRequest(f"{cine}#{REFERENCE}", f"{cine}#0", None, model=model, backward_labels=(moved,))
    np.testing.assert_array_equal(labels[0], run(further, session).propagated.backward[0])
    assert done.report["label"]["phase"] == 3


def test_a_label_map_of_every_phase(asked: CineRequest, session: Session, tmp_path: Path) -> None:
    every = tiny.write_sequence(tmp_path / "labels.nii.gz", tiny.labels())
    done = register_cine(replace(asked, label=f"{every}#3"), session)
    assert done.report["label"]["phase"] == 3
    np.testing.assert_array_equal(tiny.read_4d(done.files["labels"])[3], tiny.labels()[3])


def test_of_a_4d_label_the_time_point_that_is_drawn_on(asked: CineRequest, session: Session, tmp_path: Path) -> None:
    one = tiny.labels()
    one[[0, 1, 3]] = 0
    path = tiny.write_sequence(tmp_path / "labels.nii.gz", one)
    with pytest.warns(ImageNote, match="the only time point that is drawn on is #2"):
        assert register_cine(replace(asked, label=str(path)), session).report["label"]["phase"] == 2


def test_layers_of_a_segmentation_have_names(asked: CineRequest, session: Session, tmp_path: Path) -> None:
    drawn = tiny.labels()[REFERENCE]
    layers = np.stack([(drawn == 1).astype(np.uint8), (drawn > 0).astype(np.uint8)])
    path = save_segmentation(
        tmp_path / "drawn.seg.nrrd", layers, tiny.GRID, [("cavity", 0, 1), ("whole, with its wall", 1, 1)]
    )
    done = register_cine(replace(asked, label=str(path)), session)
    assert list(done.volumes[0]) == ["cavity", "whole, with its wall"]
    assert [done.report["outputs"][f"labels_{k}"] for k in (1, 2)] == ["labels_1.nii.gz", "labels_2.nii.gz"]
    for number, name in enumerate(done.volumes[0], 1):
        counted = [VOXEL_ML * np.count_nonzero(layer) for layer in tiny.read_4d(done.files[f"labels_{number}"])]
        assert [row[name] for row in done.volumes] == pytest.approx(counted)
    with Path(done.files["volumes"]).open(newline="") as file:
        assert next(csv.reader(file)) == ["phase", "time_s", "cavity_ml", "whole, with its wall_ml"]


# -- the folder ---------------------------------------------------------------------------------------


def test_the_same_cine_again_replaces_all_and_another_one_nothing(
    asked: CineRequest, session: Session, cine: Path, model: str, tmp_path: Path
) -> None:
    folder = Path(asked.folder)
    register_cine(asked, session)
    (folder / "mine.txt").write_text("mine")
    again = register_cine(replace(asked, label=None, reference=0), session)
    assert {path.name for path in folder.iterdir()} == {*again.report["outputs"].values(), "mine.txt"}
    before = snapshot(folder)
    other = tiny.write_sequence(tmp_path / "other.nii.gz", tiny.images((1.0, 0.9)))
    pair = RegistrationRequest(f"{cine}#0", f"{cine}#1", Outputs(str(folder)), model=model)
    for attempt in (
        lambda: register_cine(replace(asked, cine=str(other)), session),
        lambda: register_cine(replace(asked, model="none", refine="2it"), session),
        lambda: run(pair, session),
    ):
        with pytest.raises(OutputError, match=r"holds another registration, cine\.nii\.gz by tiny"):
            attempt()
        assert snapshot(folder) == before
    register_cine(replace(asked, cine=str(other), overwrite=True, label=None, reference=0), session)
    assert "transform_03.h5" not in {path.name for path in folder.iterdir()}


def test_a_cine_does_not_replace_a_pair(asked: CineRequest, session: Session, cine: Path, model: str) -> None:
    folder = Path(asked.folder)
    run(RegistrationRequest(f"{cine}#0", f"{cine}#1", Outputs(str(folder)), model=model), session)
    before = snapshot(folder)
    with pytest.raises(OutputError, match=r"another registration, cine\.nii\.gz#1 to cine\.nii\.gz#0 by tiny"):
        register_cine(asked, session)
    assert snapshot(folder) == before


def test_a_phase_that_fails_leaves_nothing(asked: CineRequest, session: Session, tmp_path: Path) -> None:
    images = tiny.images()
    images[3] = 7
    path = tiny.write_sequence(tmp_path / "dark.nii.gz", images)
    with pytest.raises(ImageError, match=r"dark\.nii\.gz#3' has the value 7 in every voxel"):
        register_cine(replace(asked, cine=str(path)), session)
    assert not Path(asked.folder).exists()


def test_a_registration_that_fails_says_of_which_phase(
    asked: CineRequest, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(request: RegistrationRequest, *rest: object) -> object:
        if isinstance(request.moving, Volume) and request.moving.source.endswith("#2"):
            raise GeometryError("the images do not overlap")
        return run(request, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("dlir.cohort.cine.register.run", fails)
    with pytest.raises(GeometryError, match=r"^phase 2, registered to phase 1: the images do not overlap$"):
        register_cine(asked, session)
    assert not Path(asked.folder).exists()


def test_a_disk_that_fills_up_leaves_the_folder_as_it_was(asked: CineRequest, session: Session) -> None:
    """Whether it is full when phases are written, or when only the report is left to write."""
    register_cine(asked, session)
    folder = Path(asked.folder)
    before, sizes = snapshot(folder), sorted(path.stat().st_size for path in folder.iterdir())
    for size in (sizes[0] - 1, sizes[-1] - 1):
        with small_disk(size), pytest.raises(OutputError, match="disk is full"):
            register_cine(asked, session)
        assert snapshot(folder) == before


def test_progress_rises_to_the_end_of_the_phases(asked: CineRequest, session: Session) -> None:
    told: list[tuple[str, float]] = []
    register_cine(replace(asked, cycle=True), session, lambda step, fraction: told.append((step, fraction)))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert 0.9 < fractions[-1] <= 1
    assert {step.partition(":")[0] for step, _ in told} == {"reading", *(f"phase {k} of 4" for k in range(4))}


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"reference": 4}, OptionError, "--reference is 4, and .* has phases 0 to 3"),
        ({"reference": -1}, OptionError, "--reference is -1"),
        ({"label_phase": 9}, OptionError, "--label-phase is 9, and the cine has phases 0 to 3"),
        ({"reference": "ed"}, OptionError, "--reference ed needs to know where the label lies; give --label-phase"),
    ],
    ids=str,
)
def test_phases_that_the_cine_lacks(
    asked: CineRequest, session: Session, changes: dict[str, object], kind: type[DLIRError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        register_cine(replace(asked, **changes), session)  # type: ignore[arg-type]
    assert not Path(asked.folder).exists()


def test_labels_that_do_not_fit(asked: CineRequest, session: Session, tmp_path: Path) -> None:
    every = tiny.write_sequence(tmp_path / "labels.nii.gz", tiny.labels())
    elsewhere = replace(tiny.GRID, origin=(0.0, 0.0, 0.7))
    off = tiny.write_sequence(tmp_path / "off.nii.gz", tiny.labels(), elsewhere)
    none = tiny.write_sequence(tmp_path / "none.nii.gz", 0 * tiny.labels())
    empty = tiny.write_label(tmp_path / "empty.nii.gz", np.zeros(tiny.GRID.shape, np.uint8))
    wall = [("wall", 0, 1), ("wall", 0, 2)]
    twice = save_segmentation(tmp_path / "twice.seg.nrrd", tiny.labels()[:1], tiny.GRID, wall)
    for label, kind, words in (
        (str(every), ImageError, "4D, and 4 of its time points are drawn on; choose one"),
        (str(none), ImageError, "is empty at all its time points"),
        (f"{off}#1", GeometryError, "does not lie on the voxels"),
        (str(empty), ImageError, "is empty; give one that marks at least one voxel"),
        (str(twice), ImageError, "names two structures 'wall'"),
        (f"{empty}#1", ImageError, "is 3D and has no time points; leave out '#1'"),
    ):
        with pytest.raises(kind, match=words):
            register_cine(replace(asked, label=label), session)
    with pytest.raises(OptionError, match="that of phase 3, and --label-phase says 2"):
        register_cine(replace(asked, label=f"{every}#3", label_phase=2), session)
    assert not Path(asked.folder).exists()


def test_requests_that_contradict_themselves() -> None:
    for changes, words in (
        ({"reference": "es"}, "the reference is 'es'"),
        ({"reference": "ed"}, "--reference ed is the phase at which a label is largest; give --label too"),
        ({"label_phase": 1}, "--label-phase is where a label was drawn; give --label too"),
        ({"refine": "long"}, "long"),
        ({"format": "mha"}, "a cine is not written as mha; use --format nrrd or nii.gz"),
    ):
        with pytest.raises(DLIRError, match=words):
            CineRequest("cine.nii.gz", "out", **changes)  # type: ignore[arg-type]


@pytest.mark.data
@pytest.mark.slow
def test_the_dicom_of_a_study_gives_what_its_file_does(shared_data: Path, session: Session, tmp_path: Path) -> None:
    """Of end-diastole and end-systole alone: all phases are in Benchmarks/ejection.py."""
    study, done = shared_data / "sunnybrook", []
    label = read_label(study / "SC-HF-I-4" / "label_phase19.nii.gz", None)
    for number, source in enumerate((study / "SC-HF-I-4_dicom.zip", study / "SC-HF-I-4" / "cine.nii.gz")):
        whole = read_sequence(source)
        part = ImageSequence([whole.arrays[k] for k in (19, 6)], whole.grid, f"part {number}")
        done.append(register_cine(CineRequest(part, str(tmp_path / str(number)), 0, label), session))
    for one, other in zip(*(each.volumes for each in done), strict=True):
        assert one == pytest.approx(other, rel=1e-5)  # a NIfTI header is of single precision
    assert done[0].report["model"]["name"] == "cardiac-cine"
    assert done[0].report["verdict"]["level"] == "good"
    np.testing.assert_allclose(*(tiny.read_4d(one.files["warped"]) for one in done), rtol=0, atol=0.01)
