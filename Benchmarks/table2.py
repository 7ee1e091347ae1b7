"""Table 2 of the paper on our data: cardiac cine MR before, by elastix, by SyN and by DLIR.

    python Benchmarks/table2.py --data DATA --dlir "DLIR multi + BP=cardiac-cine"

DATA holds acdc/ and sunnybrook/. End-diastole and end-systole both ways of ACDC patients 081-100 and of Sunnybrook
SC-HF-I-4, none of which the shipped model has seen. elastix has the paper's settings (Table 1, §5.2), with one stage
and with two, with and without bending energy, on whole images without a mask. An interrupted run goes on where it was;
the records are kept in results/table2.jsonl, the tables in results/table2.md. About 20 s a pair and elastix method on
two cores. Needs the eval and bench extras.
"""

from __future__ import annotations

from collections.abc import Sequence

from designs import ACDC_SUBJECTS, CINE, CINE_MULTI, CINE_SINGLE
from study import Benchmark, label_tables, machine, networks, options_of, syn

from dlir.data.layouts.acdc import Acdc
from dlir.data.layouts.sunnybrook import Sunnybrook
from dlir.data.pair import select
from dlir.evaluation.methods.base import Method
from dlir.evaluation.methods.elastix import ElastixMethod
from dlir.evaluation.methods.identity import Identity

SUNNYBROOK_SUBJECTS = ["SC-HF-I-4"]


DESIGNS = {"single": CINE_SINGLE, "multi": CINE_MULTI}


def conventional(designs: Sequence[str]) -> list[Method]:
    """elastix as the paper used it, with so many stages."""
    return [
        ElastixMethod(f"SE {name}{' + BP' if bending else ''}", DESIGNS[name], CINE, bending=bending)
        for name in designs
        for bending in (False, True)
    ]


def main() -> None:
    parser = options_of(__doc__, models=["DLIR=cardiac-cine"], work="runs/table2")
    parser.add_argument("--subjects", nargs="+", default=[*ACDC_SUBJECTS, *SUNNYBROOK_SUBJECTS], help="only these")
    parser.add_argument("--designs", nargs="*", choices=list(DESIGNS), default=list(DESIGNS), help="of elastix")
    options = parser.parse_args()
    methods: list[Method] = [Identity(), *conventional(options.designs), *syn(), *networks(options)]
    benchmark = Benchmark("table2", options.output)
    for data, held_out in (
        (Acdc(options.data / "acdc"), ACDC_SUBJECTS),
        (Sunnybrook(options.data / "sunnybrook"), SUNNYBROOK_SUBJECTS),
    ):
        chosen = [subject for subject in held_out if subject in options.subjects]
        if chosen:
            benchmark.run(data, select(data.pairs(), chosen), methods)
    cases = len({row.case for row in benchmark.rows})
    notes = [
        f"ED and ES both ways of ACDC 081-100 (RV, MYO, LV) and Sunnybrook SC-HF-I-4 (LV): {cases} pairs; n is the "
        "number of pairs that all methods have. SE: elastix; BP: bending penalty.",
        machine(),
    ]
    benchmark.keep_tables(label_tables(benchmark.rows), notes)


if __name__ == "__main__":
    main()
