"""Table 4 of the paper in kind: registration between persons, stage by stage, on the hippocampus.

    python Benchmarks/table4.py --data HIPPOCAMPUS --dlir DLIR=hippocampus-t1

HIPPOCAMPUS holds images/ and labels/ of the Medical Segmentation Decathlon. Pairs of the last 40 subjects by name,
which are kept from training. elastix gets its settings from the first model's own stages (§5.2), up to each of them.
An interrupted run goes on where it was; records in results/table4.jsonl, tables in results/table4.md.
"""

from __future__ import annotations

from study import Benchmark, label_tables, machine, networks, options_of, syn

from dlir.evaluation.datasets.base import select
from dlir.evaluation.datasets.decathlon import Decathlon
from dlir.evaluation.folds import subjects_of
from dlir.evaluation.methods.base import Method
from dlir.evaluation.methods.elastix import ElastixMethod
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.methods.network import NetworkMethod, stage_names

HELD_OUT = 40
# As many as the paper registered (§7.2).
PAIRS = 90


def stage_by_stage(model: NetworkMethod) -> list[Method]:
    """elastix up to each of a model's stages."""
    return [
        ElastixMethod(f"SE {name}", model.spec.stages[: k + 1], model.spec.preprocessing)
        for k, name in enumerate(stage_names(model.spec))
    ]


def main() -> None:
    parser = options_of(__doc__, models=[], work="runs/table4")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    if not options.dlir:
        parser.error("name a model with --dlir NAME=FILE: its stages are those that are compared")
    models = networks(options, stages=True)
    methods: list[Method] = [Identity(), *stage_by_stage(models[0]), *syn(affine=True), *models]
    data = Decathlon(options.data)
    data.labels = {1: "anterior", 2: "posterior"}
    every = data.pairs()
    pairs = select(every, sorted(subjects_of(every))[-HELD_OUT:], options.pairs)
    benchmark = Benchmark("table4", options.output)
    benchmark.run(data, pairs, methods)
    notes = [
        f"{len(pairs)} ordered pairs of the last {HELD_OUT} subjects of the Decathlon's hippocampus data, from aligned "
        "image centres; n is the number of pairs that all methods have. SE: elastix.",
        machine(),
    ]
    benchmark.keep_tables(label_tables(benchmark.rows), notes)


if __name__ == "__main__":
    main()
