"""Pairs whose registration can be told right from wrong: what they are, how they are scored, what elastix finds.

`Benchmarks/truth_pairs.py` writes the list and the records; `Benchmarks/verdict.py` calibrates verdicts on them.
"""

from truth.pair import TruthPair
from truth.records import Baseline, baseline, wrong
from truth.store import default_data, pairs

__all__ = ["Baseline", "TruthPair", "baseline", "default_data", "pairs", "wrong"]
