"""A cine model on the patients that it has not seen, and the figures for its card.

    python Benchmarks/accuracy.py --data ACDC --dlir DLIR=cardiac-cine [--write-card]

ACDC patients 081-100, end-diastole and end-systole both ways, before and by the model. `--write-card` puts the means
into the card of the first model's file.
"""

from __future__ import annotations

from designs import ACDC_SUBJECTS
from study import Benchmark, keep_in_card, label_tables, machine, networks, options_of

from dlir.data.layouts.acdc import Acdc
from dlir.data.pair import select
from dlir.evaluation.methods.identity import Identity


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
        keep_in_card(models[0], own, f"ACDC patients 081-100, ED and ES both ways, {len(own)} pairs, never seen")


if __name__ == "__main__":
    main()
