"""A configuration from data: what images there are (`look`), what suits them (`rules`), and why (`text`)."""

from dlir.training.plan.text import plan_text

__all__ = ["plan_text"]
