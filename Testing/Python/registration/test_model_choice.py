"""`--model auto`: the installed model that was made for images like these, or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cli_runs import CARD, FIXED, body, make_model
from dlir.errors import ModelError, notes_to
from dlir.io.reading import Volume, read_image
from dlir.model import catalogue
from dlir.model.catalogue import USER_FOLDER_VARIABLE
from dlir.model.domain import Domain, Observed
from dlir.model.file import load_model, read_header, save_model
from dlir.registration import model_choice
from dlir.registration.judging import verdict
from dlir.registration.judging.assessment import observed
from dlir.registration.model_choice import choose_model
from dlir.registration.oneshot import Registration
from dlir.registration.pipeline import model_for, run
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.transforms.spatial import CompositeTransform


def image(power: float, seed: int) -> Volume:
    """The body, its brightness bent by `power`, with noise."""
    values = body(FIXED, FIXED.center, float(np.random.default_rng(seed).uniform(-3, 3)))
    noise = np.random.default_rng(seed + 1000).normal(0, 0.02, values.shape)
    return Volume(((values / values.max()) ** power + noise).astype(np.float32), FIXED, f"image {seed}")


def made_for(path: Path, power: float) -> Path:
    """A model file whose domain are such images."""
    make_model(path)
    model, _ = load_model(path)
    registration = Registration(model, torch.device("cpu"))
    pairs: list[Observed] = []
    for seed in range(0, 60, 2):
        found = registration.predict(image(power, seed), image(power, seed + 1), CompositeTransform(()))
        pairs.append(observed(model.spec, found))
    domain = Domain.of(pairs, [FIXED, FIXED], {"inverse_consistency_mm": 1.0, "displacement_mm": 10.0})
    save_model(path, model, {**CARD, "name": path.stem, "anatomy": f"power {power:g}"}, domain)
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models, and nothing bundled."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv(USER_FOLDER_VARIABLE, str(folder))
    monkeypatch.setattr(catalogue, "resource_folder", lambda kind: tmp_path / "nothing")
    return folder


def test_the_nearest_is_taken_whatever_its_name(installed: Path) -> None:
    bright, dark = made_for(installed / "a.safetensors", 0.3), made_for(installed / "b.safetensors", 3.0)
    for power, expected in ((0.3, bright), (3.0, dark)):
        choice = choose_model(image(power, 501), image(power, 502))
        assert choice.model.path == expected
        assert list(choice.distances) == sorted(choice.distances, key=choice.distances.__getitem__)
        assert choice.distances[expected.stem] < 1.35 < max(choice.distances.values())


def test_both_images_must_be_of_its_kind(installed: Path) -> None:
    made_for(installed / "a.safetensors", 0.3)
    choice = choose_model(image(0.3, 501), image(3.0, 502))
    assert choice.model is None
    assert "'a' is for power 0.3, any" in str(choice.doubt)


def test_what_says_nothing_of_its_training_is_passed_over_with_a_word(installed: Path) -> None:
    make_model(installed / "silent.safetensors")
    known = made_for(installed / "a.safetensors", 0.3)
    (installed / "broken.safetensors").write_bytes(b"no model")
    told: list[str] = []
    with notes_to(told.append):
        assert choose_model(image(0.3, 501), image(0.3, 502)).model.path == known
    assert any("silent" in note for note in told)
    assert any("broken" in note for note in told)


def test_no_model_at_all(installed: Path) -> None:
    choice = choose_model(image(0.3, 501), image(0.3, 502))
    assert choice.model is None
    assert "choose one with --model" in str(choice.doubt)


def test_a_domain_goes_with_its_model(installed: Path) -> None:
    path = made_for(installed / "a.safetensors", 0.3)
    domain = read_header(path).domain
    assert domain is not None
    assert domain.pairs == 15


@pytest.mark.parametrize("networks_agree", [True, False])
def test_where_the_images_leave_a_doubt_the_networks_decide(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, networks_agree: bool
) -> None:
    made_for(installed / "a.safetensors", 0.3)
    fixed, moving = image(0.3, 501), image(0.3, 502)
    assert choose_model(fixed, moving).doubt is None
    monkeypatch.setattr(model_choice, "DOUBTFUL_IMAGES", 0.0)
    monkeypatch.setattr(verdict, "DOUBTFUL_IMAGES", 0.0)
    monkeypatch.setattr(verdict, "DOUBTFUL_NETWORKS", 100.0 if networks_agree else 0.0)
    request = RegistrationRequest(fixed, moving, Outputs(str(tmp_path / "out")), refine="off")
    if networks_agree:
        assert run(request).report["model"]["name"] == "a"
        return
    with pytest.raises(ModelError, match="no installed model was made for images like"):
        run(request)
    assert not (tmp_path / "out").exists()
    report = run(replace(request, refine="5it")).report
    assert report["model"]["name"] == "none"
    assert "no installed model was made for such images" in report["model"]["reason"]
    assert list(report["model"]["distances"]) == ["a"]
    assert report["refinement"]["steps"] == 5
    again = run(replace(request, refine="5it")).report  # the same, so that it may go into the same folder
    assert (again["model"], again["fixed"]) == (report["model"], report["fixed"])


HEARTS = (
    ("01_low_outlier_or_padding", "ed.nrrd", "es.nrrd"),
    ("01_low_outlier_or_padding", "ed_padded_-1000.nrrd", "es_padded_-1000.nrrd"),
    ("01_low_outlier_or_padding", "ed.nrrd", "es_padded_-1000.nrrd"),
    ("01_low_outlier_or_padding", "ed.nrrd", "es_one_voxel_-32768.nrrd"),
    ("02_default_start_and_cropped_image", "ed.nrrd", "es_cropped.nrrd"),
    ("07_nifti_sform_and_pixdim_disagree", "pixdim1_ed.nii.gz", "pixdim1_es.nii.gz"),
    ("17_seg_nrrd_layers_and_extent", "ed.nrrd", "es.nrrd"),
)


@pytest.mark.parametrize(("case", "fixed", "moving"), HEARTS)
def test_cut_and_damaged_hearts_are_hearts(case: str, fixed: str, moving: str, shared_cases: Path) -> None:
    images = [read_image(str(shared_cases / case / name), "image") for name in (fixed, moving)]
    assert choose_model(*images).model.path.stem == "cardiac-cine"


def test_hippocampi_are_hippocampi_and_lungs_are_nobodys(shared_data: Path) -> None:
    files = sorted((shared_data / "hippocampus" / "images").glob("*.nii.gz"))
    crops = [read_image(str(files[k]), "image") for k in (-1, -3)]
    assert choose_model(*crops).model.path.stem == "hippocampus"
    lungs = [read_image(str(shared_data / "lung_ct" / name), "image") for name in ("baseline.mha", "followup.mha")]
    choice = choose_model(*lungs)
    assert choice.model is None
    assert "no installed model was made for images like" in str(choice.doubt)


def test_what_is_foreseen_is_what_a_registration_takes(installed: Path, tmp_path: Path) -> None:
    made_for(installed / "dark.safetensors", 2.0)
    made_for(installed / "bright.safetensors", 0.5)
    for power, expected in ((2.0, "dark"), (0.5, "bright")):
        asked = RegistrationRequest(image(power, 900), image(power, 901), None, "auto", "cpu", refine="off")
        found = model_for(asked)
        assert found["name"] == expected
        assert found["distances"][expected] == min(found["distances"].values())
        report = run(asked).report["model"]
        assert (report["name"], report["distances"]) == (found["name"], found["distances"])
