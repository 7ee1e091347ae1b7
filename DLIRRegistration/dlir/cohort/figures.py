"""What a summary tells of a result: the few figures of its report that tell one pair from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dlir.registration.judging.verdict import Verdict


@dataclass(frozen=True)
class Figures:
    """Of one result; None for what is not known. labels: Dice by label, before and after; dice: their means.

    seconds: of the whole registration, reading and writing included.
    """

    fixed: str
    moving: str
    verdict: Verdict
    ncc: tuple[float | None, float | None]
    labels: Mapping[str, tuple[float | None, float | None]]
    tre_mm: tuple[float | None, float | None]
    folding_percent: float | None
    seconds: float
    model: str
    device: str
    notes: tuple[str, ...]

    @property
    def dice(self) -> tuple[float | None, float | None]:
        columns = zip(*self.labels.values(), strict=True) if self.labels else ((), ())
        before, after = ([value for value in column if value is not None] for column in columns)
        return (fmean(before) if before else None), (fmean(after) if after else None)


def figures_of(report: Mapping[str, Any]) -> Figures:
    """Raises KeyError, TypeError or ValueError for what is no report of a registration."""
    times, landmarks = ("before", "after"), report.get("landmarks") or {}
    scored = {
        name: scores
        for name, scores in report.get("labels", {}).items()
        # A label in one of both maps only says nothing of the registration.
        if any(scores[when]["asd_mm"] is not None for when in times)
    }
    return Figures(
        report["fixed"]["file"],
        report["moving"]["file"],
        Verdict.from_report(report),
        _two(report["similarity"]["before"], report["similarity"]["after"]),
        {name: _two(scores["before"]["dice"], scores["after"]["dice"]) for name, scores in scored.items()},
        _two(*(landmarks.get(when, {}).get("mean_mm") for when in times)),
        report["jacobian"]["folding_percent"],
        round(sum(report["seconds"].values()), 3),
        report["model"]["name"],
        report["device"],
        tuple(report["notes"]),
    )


def _two(before: float | None, after: float | None) -> tuple[float | None, float | None]:
    return before, after
