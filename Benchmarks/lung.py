"""Landmark errors on one lung at two times: before, by elastix and by DLIR.

    python Benchmarks/lung.py --data LUNG_CT [--dlir DLIR=chest-ct]

LUNG_CT holds baseline and followup .mha, their _mask.mha and ten _landmarks.txt each. One patient and ten landmarks say
little, and no model that ships was trained on CT: the cine model stands in to show what a model of another organ and
modality does, not what DLIR can do on lungs. elastix has the settings of Table 5, with and without the lung mask.
Records in results/lung.jsonl, tables in results/lung.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from designs import BREATHING, LUNG
from study import Benchmark, machine, networks, options_of, syn

from dlir.data.pair import Pair, Scan, ordered_pairs
from dlir.evaluation.methods.base import Method
from dlir.evaluation.methods.elastix import ElastixMethod
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.summary import measures, pairs_table
from dlir.evaluation.tables import landmark_table, mean_sd, summary_table


@dataclass
class Lung:
    """The pair that comes with elastix's examples, both ways."""

    folder: Path
    title: str = "lung CT"
    labels: Mapping[int, str] = field(default_factory=dict)

    def pairs(self) -> list[Pair]:
        parts = ("baseline", "followup")
        files = {p: [str(self.folder / f"{p}{end}") for end in (".mha", "_mask.mha", "_landmarks.txt")] for p in parts}
        scans = [Scan("lung", p, image, mask=mask, landmarks=points) for p, (image, mask, points) in files.items()]
        return ordered_pairs(scans)


def main() -> None:
    options = options_of(
        __doc__, models=["DLIR cardiac-cine (other organ)=cardiac-cine"], work="runs/lung"
    ).parse_args()
    methods: list[Method] = [
        Identity(),
        ElastixMethod("SE", BREATHING, LUNG),
        ElastixMethod("SE in the lung mask", BREATHING, LUNG, masked=True),
        *syn(),
        *networks(options),
    ]
    data = Lung(options.data)
    benchmark = Benchmark("lung", options.output)
    benchmark.run(data, data.pairs(), methods)
    table = pairs_table(benchmark.rows)
    shown = [m for m in measures(table) if m.key in ("tre_mean", "folding_percent", "jacobian_sd")]
    sections = [
        ("Landmark error in mm, mean (SD)", landmark_table(table)),
        (
            "Mean ± SD over the two directions; topology inside the lung mask",
            summary_table(table, shown, mean_sd),
        ),
    ]
    notes = [
        "One patient at two times, ten landmarks, both directions, from aligned image centres. No model that ships was "
        "trained on CT; the cine model is of another organ and modality.",
        machine(),
    ]
    benchmark.keep_tables(sections, notes)


if __name__ == "__main__":
    main()
