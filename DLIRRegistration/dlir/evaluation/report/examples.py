"""Example pairs in a report: the worst, the median and the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dlir.errors import DLIRError
from dlir.evaluation.methods.network import NetworkMethod
from dlir.evaluation.report.content import Evaluated, registering
from dlir.evaluation.report.page import Page
from dlir.evaluation.report.pictures import method_panels, stage_panels, stages_of
from dlir.evaluation.report.style import picture_uri
from dlir.evaluation.results import Row
from dlir.evaluation.scoring import LoadedPair, load_pair, load_scan
from dlir.evaluation.summary import Measure, statistics
from dlir.evaluation.transforms import load_transform
from dlir.model.preprocessing import intensity_range
from dlir.transforms.spatial import CompositeTransform

# Methods side by side in one picture: the last ones of the list.
_SIDE_BY_SIDE = 6


def add_examples(page: Page, evaluated: Evaluated, rows: Sequence[Row], found: Sequence[Measure]) -> None:
    """Pictures of the pairs on which the last method does worst, in the middle, and best."""
    active = registering(rows)
    shown = [row for row in rows if row.method in active and evaluated.study.has_transform(row)]
    if not shown:
        return
    last = shown[-1].method
    ranked = [row.case for row in _ranked([row for row in shown if row.method == last], found)]
    places = {ranked[0]: "worst", ranked[-1]: "best", ranked[len(ranked) // 2]: "median"}
    page.section("Examples", f"The pairs on which {last} does worst, in the middle, and best.")
    for case in dict.fromkeys((ranked[0], ranked[len(ranked) // 2], ranked[-1])):
        own = [row for row in shown if row.case == case]
        try:
            _add_example(page, evaluated, own, places[case], stages=case == ranked[len(ranked) // 2])
        except DLIRError as error:
            page.problems([f"{case[1]} cannot be shown: {error}"])


def _ranked(rows: Sequence[Row], found: Sequence[Measure]) -> list[Row]:
    """From bad to good: by mean Dice, else by landmarks, else by the spread of the Jacobian."""
    by_key = {m.key: m for m in found}
    chosen = [m for m in found if m.key.startswith("dice_")] or [by_key.get("tre_mean") or by_key["jacobian_sd"]]

    def quality(row: Row) -> float:
        mean = statistics(m.value(row) for m in chosen).mean
        return -math.inf if math.isnan(mean) else chosen[0].better * mean

    return sorted(rows, key=quality)


def _add_example(page: Page, evaluated: Evaluated, rows: Sequence[Row], which: str, *, stages: bool) -> None:
    """Raises the errors of reading the pair and its transforms."""
    pair = next(pair for pair in evaluated.pairs if pair.name == rows[0].pair)
    scans = load_scan(pair.fixed), load_scan(pair.moving)
    loaded = load_pair(pair, *scans, evaluated.data.labels, evaluated.study.mode)
    transforms = {row.method: load_transform(evaluated.study.transform_file(row)) for row in rows[-_SIDE_BY_SIDE:]}
    page.figure(
        picture_uri(method_panels(loaded, transforms)),
        f"{pair.name} ({which}; n = 1 pair): fixed and moving image, then for each method the warped image with its "
        "deformation grid (8 mm on the moving image) above the Jacobian determinant, folding in bright red. As Figures "
        "6 and 12 of the paper.",
    )
    if stages:
        _add_stages(page, evaluated, loaded, transforms)


def _add_stages(
    page: Page, evaluated: Evaluated, loaded: LoadedPair, transforms: Mapping[str, CompositeTransform]
) -> None:
    """The model with the most stages, one by one."""
    models = [m for m in evaluated.methods if isinstance(m, NetworkMethod) and m.name in transforms]
    method = max(models, key=lambda m: len(m.stages), default=None)
    steps = stages_of(transforms[method.name], loaded.start, method.stages) if method is not None else {}
    if method is None or len(steps) < 2:
        return
    window = intensity_range(loaded.fixed.image.array, method.spec.preprocessing)
    page.figure(
        picture_uri(stage_panels(loaded, steps, window)),
        f"{loaded.pair.name}, {method.name}, stage by stage (n = 1 pair): three slices at right angles, and below each "
        "the absolute difference to the fixed image as a share of the intensity range (no unit). As Figure 11 of the "
        "paper.",
    )
