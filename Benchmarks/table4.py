"""Table 4 of the paper in kind: registration between persons, stage by stage, on the hippocampus.

    python Benchmarks/table4.py --data HIPPOCAMPUS

HIPPOCAMPUS holds images/ and labels/ of the Medical Segmentation Decathlon. 200 ordered pairs of two persons, drawn
once and for all, of the last 12 persons by number, whom the preset keeps from training and from validation: before, and
by the model up to each of its stages. On the first of these pairs also elastix, with settings from the model's own
stages (§5.2) and up to each of them, and SyN.
`--write-card` puts the model's means over all pairs into its file's card. An interrupted run goes on where it was;
records in results/table4.jsonl, tables in results/table4.md. Needs the eval and bench extras.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from study import Benchmark, Section, keep_in_card, machine, networks, options_of, syn

from dlir.data.layouts.decathlon import Decathlon
from dlir.data.pair import Pair
from dlir.evaluation.folds import subjects_of
from dlir.evaluation.methods.base import Method
from dlir.evaluation.methods.elastix import ElastixMethod
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.methods.network import NetworkMethod, stage_names
from dlir.evaluation.results import Row, common_cases
from dlir.evaluation.summary import measures, pairs_table, registering
from dlir.evaluation.tables import UNDEFINED, Cell, mean_sd, median_iqr, summary_table

# Persons that the preset `hippocampus` keeps for testing.
HELD_OUT = 12
LABELS = {1: "anterior", 2: "posterior"}
PAIRS = 200
SAMPLE = 40
SEED = 2019

COLUMNS = ("dice_anterior", "dice_posterior", "asd_anterior", "asd_posterior", "folding_percent", "jacobian_sd")


def held_out_pairs(data: Decathlon) -> list[Pair]:
    """Every ordered pair of the persons kept for testing, by the names of the fixed and the moving image."""
    every = data.pairs()
    subjects = set(sorted(subjects_of(every))[-HELD_OUT:])
    own = [pair for pair in every if {pair.fixed.subject, pair.moving.subject} <= subjects]
    return sorted(own, key=lambda pair: (pair.fixed.name, pair.moving.name))


def drawn(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """`count` of the pairs by chance, the same every time; a smaller count gives the first of them."""
    return [pairs[i] for i in np.random.default_rng(SEED).permutation(len(pairs))[:count]]


def stage_by_stage(model: NetworkMethod) -> list[Method]:
    """elastix up to each of a model's stages."""
    return [
        ElastixMethod(f"SE {name}", model.spec.stages[: k + 1], model.spec.preprocessing)
        for k, name in enumerate(stage_names(model.spec))
    ]


def table(rows: Sequence[Row], cell: Cell) -> list[list[str]]:
    """A line per method, over the pairs that all have; last, the share of pairs that fold anywhere."""
    shared = pairs_table(common_cases(rows))
    found = {measure.key: measure for measure in measures(shared)}
    head, *body = summary_table(shared, [found[key] for key in COLUMNS], cell)
    lines = [[*head, "pairs that fold"]]
    folded = (shared["folding_percent"] > 0).groupby(shared["method"]).mean()
    for line in body:
        lines.append([*line, f"{folded[line[0]]:.0%}" if line[0] in registering(shared) else UNDEFINED])
    return lines


def main() -> None:
    parser = options_of(__doc__, models=["DLIR=hippocampus"], work="runs/table4")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--sample", type=int, default=SAMPLE, help="of these, for elastix and SyN")
    parser.add_argument("--write-card", action="store_true", help="keep the first model's means in its file")
    options = parser.parse_args()
    if not options.dlir:
        parser.error("name a model with --dlir NAME=FILE: its stages are those that are compared")
    models = networks(options, stages=True)
    whole = models[len(models[0].spec.stages) - 1]
    data = Decathlon(options.data)
    data.labels = LABELS
    pairs = drawn(held_out_pairs(data), options.pairs)
    benchmark = Benchmark("table4", options.output)
    every = benchmark.run(data, pairs, [Identity(), *models])
    sample = benchmark.run(
        data, pairs[: options.sample], [Identity(), *stage_by_stage(whole), *syn(affine=True), *models]
    )
    sections: list[Section] = [
        (f"{what}, {title}", table(rows, cell))
        for what, rows in (("All pairs", every), ("The sample, every method", sample))
        for title, cell in (("mean ± SD", mean_sd), ("median ± IQR", median_iqr))
    ]
    described = f"{len(pairs)} ordered pairs of the last {HELD_OUT} persons of the Decathlon's hippocampus data"
    notes = [
        f"{described}, from aligned image centres, and the first {options.sample} of them as a sample; n is the number "
        "of pairs that all methods of a table have. SE: elastix, up to the same stage.",
        machine(),
    ]
    benchmark.keep_tables(sections, notes)
    if options.write_card:
        keep_in_card(whole, [row for row in every if row.method == whole.name], described)


if __name__ == "__main__":
    main()
