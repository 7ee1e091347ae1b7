"""The verdict: which figure decides, and that its words name that figure."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlir.model.domain import Domain, Observed
from dlir.model.file import ModelHeader
from dlir.model.preprocessing import Preprocessing
from dlir.model.spec import ModelSpec
from dlir.networks.spec import StageSpec
from dlir.registration.judging import verdict
from dlir.registration.judging.assessment import Assessment
from dlir.registration.judging.verdict import LEVELS, UNLIKE_IMAGES, UNLIKE_NETWORKS, Verdict, judge, limits, verdict_on
from grids import make_grid

# As measured: a held-out heart, end-systole to end-diastole.
HELD_OUT: dict[str, Any] = {
    "fixed": {"shape": [10, 20, 30]},
    "fixed_mask": None,
    "moving_mask": None,
    "initialization": {"mode": "scanner positions", "center_distance_mm": 0.0, "overlap": 1.0},
    "similarity": {"measure": "NCC", "before": 0.9180, "after": 0.9649, "voxels_before": 6000, "voxels_after": 5950},
    "jacobian": {"folding_count": 0, "folding_percent": 0.0, "mean": 1.0, "sd": 0.156, "min": 0.074, "max": 2.93},
}


def with_(**sections: dict[str, Any]) -> dict[str, Any]:
    """The held-out report with some figures replaced."""
    return HELD_OUT | {
        name: {**HELD_OUT[name], **values} if isinstance(HELD_OUT.get(name), dict) else values
        for name, values in sections.items()
    }


def label(before: float | None, after: float | None, asd: float | None = 1.0) -> dict[str, Any]:
    scores = {"hd_mm": asd, "hd95_mm": asd, "asd_mm": asd}
    return {"before": {"dice": before, **scores}, "after": {"dice": after, **scores}}


def landmarks(before: float, after: float) -> dict[str, Any]:
    errors = ({"mean_mm": mean, "sd_mm": 1.0, "max_mm": mean + 1} for mean in (before, after))
    return dict(zip(("before", "after"), errors, strict=True), count=2)


@pytest.mark.parametrize(
    "jacobian",
    [
        {"sd": 0.133, "min": 0.091, "max": 2.54},
        {"sd": 0.183, "min": 0.290, "max": 7.53},
        {"sd": 0.250, "min": 0.033, "max": 9.69},
    ],
)
def test_held_out_hearts_are_good(jacobian: dict[str, float]) -> None:
    found = judge(with_(jacobian=jacobian))
    assert (found.level, found.reason) == (
        "good",
        "The images match better than before (similarity 0.92 → 0.96), and nothing folds.",
    )


@pytest.mark.parametrize(
    ("similarity", "jacobian", "overlap"),
    [
        ((0.2410, 0.4957, 4440, 5160), {"sd": 0.534, "min": 0.012, "max": 8.02}, 0.77),
        ((0.1759, 0.5362, 6000, 5820), {"sd": 0.757, "min": 0.018, "max": 11.07}, 1.0),
        ((0.1639, 0.3921, 2940, 2820), {"sd": 0.567, "min": 0.042, "max": 10.11}, 0.55),
    ],
)
def test_hearts_of_different_people_are_caught(
    similarity: tuple[float, float, int, int], jacobian: dict[str, float], overlap: float
) -> None:
    names = ("before", "after", "voxels_before", "voxels_after")
    report = with_(
        similarity=dict(zip(names, similarity, strict=True)), jacobian=jacobian, initialization={"overlap": overlap}
    )
    assert judge(report).level == "check"


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"similarity": {"after": None, "voxels_after": 0}}, "No part of the fixed image"),
        ({"similarity": {"voxels_before": 200, "voxels_after": 180}}, "Only 3 %"),
        ({"similarity": {"voxels_after": 2900}}, "48 % of it is left"),
        ({"jacobian": {"folding_count": 90, "folding_percent": 1.5}}, "1.5 % of the image"),
        ({"similarity": {"after": 0.90}}, "similarity 0.92 → 0.90"),
    ],
)
def test_failed(sections: dict[str, Any], words: str) -> None:
    found = judge(with_(**sections))
    assert found.level == "failed"
    assert words in found.reason


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"jacobian": {"folding_count": 1, "folding_percent": 0.02}}, "in 1 voxel;"),
        ({"jacobian": {"folding_count": 3, "folding_percent": 0.05}}, "in 3 voxels;"),
        ({"landmarks": landmarks(3.0, 4.0)}, "3.0 → 4.0 mm"),
        ({"labels": {"LV": label(0.9, 0.95), "RV": label(0.8, 0.7)}}, "'RV' overlaps less than before (Dice 0.80"),
        ({"labels": {"LV": label(0.8, 0.0)}}, "Dice 0.80 → 0.00"),
        ({"similarity": {"voxels_before": 2500, "voxels_after": 2400}}, "Only 40 %"),
        ({"similarity": {"before": 0.3, "after": 0.6}}, "similarity 0.60 of 1"),
        ({"similarity": {"before": 0.9, "after": 0.91}}, "hardly better than before (similarity 0.90 → 0.91)"),
        ({"jacobian": {"sd": 0.62}}, "SD of the Jacobian 0.62"),
        ({"jacobian": {"min": 0.008}}, "0.8 % of its volume"),
        ({"jacobian": {"max": 14.2}}, "14 times its volume"),
    ],
)
def test_check(sections: dict[str, Any], words: str) -> None:
    found = judge(with_(**sections))
    assert found.level == "check"
    assert words in found.reason


@pytest.mark.parametrize(
    "sections",
    [
        {"landmarks": landmarks(3.0, 3.2)},
        {"labels": {"LV": label(0.9, 0.895)}},
        {"labels": {"LV": label(0.0, 0.0, asd=None)}},
        {"labels": {"LV": label(None, None)}},
        {"similarity": {"before": 0.995, "after": 0.994}},
        {"similarity": {"before": None, "after": 0.9, "voxels_before": 0}},
    ],
)
def test_still_good(sections: dict[str, Any]) -> None:
    assert judge(with_(**sections)).level == "good"


def test_failing_comes_before_checking() -> None:
    report = with_(similarity={"after": 0.8}, jacobian={"folding_count": 1, "folding_percent": 0.02})
    assert judge(report).level == "failed"


def test_images_that_matched_from_the_start() -> None:
    reason = judge(with_(similarity={"before": 0.99, "after": 0.991})).reason
    assert reason == "The images matched from the start (similarity 0.99 → 0.99), and nothing folds."


def test_with_a_mask_the_start_tells_what_is_covered() -> None:
    counts = {"voxels_before": 100, "voxels_after": 100}
    masked = with_(similarity=counts) | {"fixed_mask": "heart"}
    assert judge(masked).level == "good"
    assert judge({**masked, "initialization": {**HELD_OUT["initialization"], "overlap": 0.3}}).level == "check"


def test_everything_undefined_has_a_verdict() -> None:
    undefined = {
        "similarity": {"measure": "NCC", "before": None, "after": None},
        "jacobian": {"folding_count": 7, "folding_percent": None, "mean": None, "sd": None, "min": None, "max": None},
    }
    assert judge(undefined).level == "failed"


def test_looking_needs_nothing_that_slicer_lacks() -> None:
    pytest.importorskip("slicer", reason="needs slicer-core")
    code = (
        "import sys, DLIRRegistrationLib.display.views, dlir.registration.judging.verdict;"
        "print(*{'torch', 'safetensors', 'typer', 'rich', 'SimpleITK', 'qt'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_limits_leave_room_between_what_was_measured() -> None:
    assert verdict.SIMILARITY_GAIN < 0.47
    assert 0.54 < verdict.SIMILARITY_LOW < 0.96
    assert 0.25 < verdict.JACOBIAN_SD < 0.53
    assert verdict.JACOBIAN_SMALLEST < 0.033
    assert verdict.JACOBIAN_LARGEST > 9.69


# -- what a model was made for, and the way back ------------------------------------------------------

LIMITS = limits({"inverse_consistency_mm": 1.0, "displacement_mm": 20.0})
MOST_APART, MOST_MOVED = LIMITS["inverse_consistency_mm_limit"], LIMITS["displacement_mm_limit"]


@pytest.mark.parametrize(
    ("inputs", "level", "words"),
    [
        ({"inverse_consistency_mm": 0.99 * MOST_APART}, "good", "nothing folds"),
        ({"inverse_consistency_mm": 1.1 * MOST_APART}, "check", f"stay below {MOST_APART:.1f} mm"),
        ({"inverse_consistency_mm": verdict.CONSISTENCY_FAILED * MOST_APART}, "check", "the other way round"),
        ({"inverse_consistency_mm": 1.01 * verdict.CONSISTENCY_FAILED * MOST_APART}, "failed", "cannot be relied upon"),
        ({"displacement_mm": 0.99 * MOST_MOVED}, "good", "nothing folds"),
        ({"displacement_mm": 1.1 * MOST_MOVED}, "check", f"Points move by up to {1.1 * MOST_MOVED:.0f} mm"),
        ({"local_before": 0.5, "local_after": 0.5}, "good", "nothing folds"),
        ({"local_before": 0.5, "local_after": 0.4}, "check", "local similarity 0.50 → 0.40"),
    ],
)
def test_figures_of_the_way_back_are_held_to_the_model_s_own(inputs: dict[str, float], level: str, words: str) -> None:
    found = judge(HELD_OUT, {**LIMITS, **inputs})
    assert found.level == level
    assert words in found.reason
    assert inputs.items() <= found.inputs.items(), "what was looked at is kept"


@pytest.mark.parametrize("unknown", [None, math.nan])
@pytest.mark.parametrize("limited", [True, False])
def test_what_is_not_known_counts_for_nothing(unknown: float | None, limited: bool) -> None:
    names = [field.name for field in fields(Assessment)]
    inputs = dict.fromkeys(names, unknown) | (LIMITS if limited else dict.fromkeys(LIMITS, unknown))
    assert judge(HELD_OUT, inputs).level == "good"
    beyond = {"inverse_consistency_mm": 99.0, "displacement_mm": 999.0}
    assert limited or judge(HELD_OUT, {**inputs, **beyond}).level == "good", "without a limit nothing is beyond it"


def test_a_pair_that_is_not_the_model_s_business_is_checked_whatever_its_figures_say() -> None:
    found = judge(HELD_OUT, unlike="This does not look like a heart.")
    assert (found.level, found.reason) == ("check", "This does not look like a heart.")
    assert judge(with_(similarity={"after": 0.8}), unlike="This does not look like a heart.").level == "failed"


def header(domain: Domain | None, **card: str) -> ModelHeader:
    spec = ModelSpec(Preprocessing((2.0, 2.0, 2.0)), (StageSpec("affine", (4, 4, 4), (2, 2)),))
    return ModelHeader(Path("hart.safetensors"), spec, card, "0.2.0", "0" * 64, domain)


def domain(**figures: float) -> Domain:
    """Of 30 pairs of small images."""
    rng = np.random.default_rng(3)
    seen = [Observed((rng.normal(size=18), rng.normal(size=18)), (rng.normal(size=4),)) for _ in range(30)]
    return Domain.of(seen, [make_grid((6, 20, 24), (1.5, 1.5, 8.0))], figures)


ASSESSED = Assessment(0.5, 10.0, 0.5, 0.7, 0.9, 0.8)


def test_a_model_that_does_not_say_what_it_was_made_for_is_checked_with_words() -> None:
    found = verdict_on(HELD_OUT, header(None, name="hart"), ASSESSED)
    assert found.level == "check"
    assert found.reason == "The model 'hart' does not say what it was made for; look at the result."
    assert found.inputs["inverse_consistency_mm"] == 0.5
    assert not any(name.endswith("_limit") for name in found.inputs)


def test_near_the_domain_the_model_s_limits_hold() -> None:
    model = header(domain(inverse_consistency_mm=1.0, displacement_mm=20.0))
    found = verdict_on(HELD_OUT, model, ASSESSED)
    assert found.level == "good"
    assert found.inputs.items() >= LIMITS.items()
    assert verdict_on(HELD_OUT, model, replace(ASSESSED, displacement_mm=99.0)).level == "check"
    assert verdict_on(HELD_OUT, model, replace(ASSESSED, inverse_consistency_mm=99.0)).level == "failed"


def test_far_from_the_domain_the_words_say_what_the_model_is_for() -> None:
    model = header(domain(), anatomy="heart, short axis", modality="cine MR")
    for name, most in (("images_distance", UNLIKE_IMAGES), ("networks_distance", UNLIKE_NETWORKS)):
        found = verdict_on(HELD_OUT, model, replace(ASSESSED, **{name: 10 * most}))
        assert found.level == "check"
        assert "does not look like heart, short axis, cine MR" in found.reason
        assert f"{10 * most:.2f} times as far" in found.reason
        assert verdict_on(HELD_OUT, model, replace(ASSESSED, **{name: most})).level == "good"


def test_before_the_way_back_the_rest_decides() -> None:
    model = header(domain(inverse_consistency_mm=1.0, displacement_mm=20.0))
    there = replace(ASSESSED, inverse_consistency_mm=None)
    assert verdict_on(HELD_OUT, model, there).level == "good"
    assert verdict_on(HELD_OUT, model, replace(there, displacement_mm=99.0)).level == "check"


# -- in a report --------------------------------------------------------------------------------------


def test_a_verdict_comes_out_of_a_report_as_it_went_in() -> None:
    found = judge(HELD_OUT, {**LIMITS, "inverse_consistency_mm": 9.0})
    written = json.loads(json.dumps({**HELD_OUT, "verdict": found.to_dict()}))
    assert Verdict.from_report(written) == found
    assert Verdict.from_report(HELD_OUT) == judge(HELD_OUT), "a report of a DLIR that wrote none"


def test_levels_are_in_order() -> None:
    good, check, failed = (Verdict(level, "") for level in LEVELS)
    assert [v.reaches("check") for v in (good, check, failed)] == [False, True, True]
    assert [v.reaches("failed") for v in (good, check, failed)] == [False, False, True]


def test_the_similarity_without_padding_decides_where_it_is_known() -> None:
    """The report's, which padding moves, decides only where nothing else is known, and within masks."""
    fallen = with_(similarity={"before": 0.95, "after": 0.40})
    seen = {"similarity_before": 0.92, "similarity_after": 0.97}
    assert judge(fallen).level == "failed"
    found = judge(fallen, seen)
    assert (found.level, found.inputs["similarity_after"]) == ("good", 0.97)
    assert "0.92 → 0.97" in found.reason
    assert judge(fallen, {"similarity_before": None, "similarity_after": None}).level == "failed"
    assert (
        judge(with_(fixed_mask={"file": "m.nrrd"}, similarity={"before": 0.95, "after": 0.40}), seen).level == "failed"
    )


def test_images_that_leave_a_doubt_are_held_to_a_nearer_limit_by_the_networks() -> None:
    certain, doubtful = limits({}), limits({}, doubtful=True)
    assert doubtful["networks_distance_limit"] < certain["networks_distance_limit"]
    assert doubtful["images_distance_limit"] == certain["images_distance_limit"]


def test_images_that_matched_from_the_start_have_hardly_room_to_fall() -> None:
    """One image twice that is bent by some millimetres: NCC falls by thousandths, and that is all that there is."""
    worse = judge(with_(), {"similarity_before": 0.9989, "similarity_after": 0.9947})
    assert (worse.level, worse.reason) == ("check", "The images matched better before (similarity 0.999 → 0.995).")
    assert judge(with_(), {"similarity_before": 0.9989, "similarity_after": 0.9985}).level == "good"


def test_a_local_similarity_below_what_the_model_s_own_reach() -> None:
    figures = {"local_after": 0.6, "local_after_limit": 0.45}
    assert judge(with_(), figures).level == "good"
    low = judge(with_(), figures | {"local_after": 0.25})
    assert low.level == "check"
    assert "local similarity 0.25" in low.reason


def test_a_failure_says_too_that_the_pair_is_not_the_model_s_business() -> None:
    found = judge(with_(similarity={"before": 0.95, "after": 0.40}), None, "This does not look like a heart.")
    assert found.level == "failed"
    assert found.reason.startswith("The images match less than before")
    assert found.reason.endswith("This does not look like a heart.")


# -- without a model ----------------------------------------------------------------------------------

RIGHT = Assessment(1.5, 8.0, 0.7, 0.8, similarity_before=0.9, similarity_after=0.95, sample_mm=2.0)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"ambiguity": 0.96}, r"Another position fits nearly as well \(96 % as alike at low resolution\)"),
        ({"affine_volume": 2.5}, "scaled to 2.50 times its volume; are the voxel sizes right"),
        ({"affine_volume": 0.4}, "scaled to 0.40 times its volume; are the voxel sizes right"),
        ({"mirrored": 1.09}, r"Mirrored, the moving image fits better \(109 % as alike"),
        ({"affine_turn_degrees": 179.0}, "turned by 179 degrees; is its orientation what its header says"),
        ({"inverse_consistency_mm": 9.0}, "one edge in four comes back more than 9.0 mm .* stay below 8.0 mm"),
        ({"sample_mm": 0.3}, "one edge in four comes back more than 1.5 mm .* stay below 1.2 mm"),
    ],
)
def test_what_speaks_against_an_optimised_pair(figures: dict[str, float], words: str) -> None:
    found = verdict_on(HELD_OUT, None, replace(RIGHT, **figures))
    assert found.level == "check"
    assert re.search(words, found.reason)


@pytest.mark.parametrize(
    "figures",
    [
        {},
        {"ambiguity": 0.9},
        {"mirrored": 1.03},  # a spine, whose two sides are alike
        {"affine_turn_degrees": 90.0},
        {"inverse_consistency_mm": 6.7},  # hippocampi that are right: 3.4 samples
        {"affine_volume": 1.4},
        {"affine_volume": 0.7},
        {"similarity_after": 0.9},  # a pair that lay right is left there
    ],
)
def test_an_optimised_pair_is_good(figures: dict[str, float]) -> None:
    assert verdict_on(HELD_OUT, None, replace(RIGHT, **figures)).level == "good"


def test_far_off_on_the_way_back_it_has_failed() -> None:
    assert verdict_on(HELD_OUT, None, replace(RIGHT, inverse_consistency_mm=33.0)).level == "failed"


@pytest.mark.parametrize(("sd", "level"), [(0.55, "good"), (0.62, "check")])
def test_without_a_model_volume_may_change_more_unevenly(sd: float, level: str) -> None:
    report = with_(jacobian={"sd": sd})
    assert verdict_on(report, None, RIGHT).level == level
    assert judge(report).level == "check"


@pytest.mark.parametrize("after", [0.95, -0.9])
def test_images_of_two_contrasts_are_to_be_looked_at(after: float) -> None:
    """They need not correlate where they fit."""
    report = with_(refinement={"same_contrast": False, "similarity": "local_ncc"})
    found = verdict_on(report, None, replace(RIGHT, similarity_after=after))
    assert found.level == "check"
    assert "The images differ in contrast, so that they were only moved and not bent" in found.reason


@pytest.mark.parametrize(("similarity", "level"), [("local_ncc", "failed"), ("mutual_information", "check")])
def test_a_fall_of_correlation_counts_where_it_was_optimised(similarity: str, level: str) -> None:
    report = with_(refinement={"same_contrast": True, "similarity": similarity})
    assert verdict_on(report, None, replace(RIGHT, similarity_after=0.2)).level == level


@pytest.mark.parametrize(("stages", "stopped", "good"), [(3, True, False), (5, True, True), (3, False, True)])
def test_an_optimisation_that_was_ended_early_is_to_be_looked_at(stages: int, stopped: bool, good: bool) -> None:
    done = [{"before": 0.5, "after": 0.6}] * stages
    refinement = {"stopped": stopped, "planned_stages": 5, "stages": done, "same_contrast": True}
    found = verdict_on(with_(refinement=refinement), None, RIGHT)
    assert (found.level == "good") == good
    if not good:
        assert "ended after 3 of 5 stages" in found.reason


@pytest.mark.parametrize(("shape", "level"), [((3, 3, 3), "check"), ((30, 30, 30), "good")])
def test_few_voxels_fit_anything(shape: tuple[int, int, int], level: str) -> None:
    report = with_(refinement={"same_contrast": True})
    voxels = shape[0] * shape[1] * shape[2]
    report["fixed"] = {**report.get("fixed", {}), "shape": list(shape)}
    report["similarity"] = {**report["similarity"], "voxels_before": voxels, "voxels_after": voxels}
    found = verdict_on(report, None, RIGHT)
    assert found.level == level
    if level == "check":
        assert "27 voxels, too few" in found.reason
