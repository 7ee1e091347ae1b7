"""A cine model on the patients that it has not seen, and the figures for its card.

    python Benchmarks/accuracy.py --data ACDC --dlir DLIR=cardiac-cine [--write-card]

ACDC patients 081-100, end-diastole and end-systole both ways, before and by the model. `--write-card` puts the means
into the card of the first model's file.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from designs import ACDC_SUBJECTS
from study import Benchmark, label_tables, machine, networks, options_of

from dlir.evaluation.datasets.acdc import Acdc
from dlir.evaluation.datasets.base import select
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.results import Row
from dlir.model.file import load_model, save_model


def held_out_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over all pairs, for a model's card."""

    def mean(values: Sequence[float], digits: int) -> float:
        return round(statistics.fmean(values), digits)

    return {
        "data": f"ACDC patients 081-100, ED and ES both ways, {len(rows)} pairs",
        **{f"dice_{name}": mean([row.labels[name].dice for row in rows], 3) for name in ("RV", "MYO", "LV")},
        "folding_percent": mean([row.topology.folding_percent for row in rows], 4),
        "jacobian_sd": mean([row.topology.sd for row in rows], 3),
    }


def main() -> None:
    parser = options_of(__doc__, models=["DLIR=cardiac-cine"], work="runs/accuracy")
    parser.add_argument("--write-card", action="store_true", help="keep the means in the model file")
    options = parser.parse_args()
    models = networks(options)
    data = Acdc(options.data)
    benchmark = Benchmark("accuracy", options.output)
    benchmark.run(data, select(data.pairs(), ACDC_SUBJECTS), [Identity(), *models])
    benchmark.keep_tables(label_tables(benchmark.rows), ["ED and ES both ways of ACDC 081-100.", machine()])
    if options.write_card:
        own = [row for row in benchmark.rows if row.method == models[0].name]
        model, header = load_model(models[0].path)
        save_model(models[0].path, model, header.card | {"held_out": held_out_figures(own)})


if __name__ == "__main__":
    main()
