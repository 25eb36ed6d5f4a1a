"""Measures the relevance of searches on your own rows, with judgements: how relevant rows are to queries.

`Judgements` come from files, from your tables or from clicks. `evaluate` measures variants of a search on them, and
says whether a difference is more than chance. `split` holds some judgements out, and the database remembers which, so
that what is tuned or trained on the others is measured honestly. `interleaving_outcome` says which of two searches
people prefer, by their clicks.
"""

from pg_semantic.evaluation.evaluate import EvaluationOptions, evaluate
from pg_semantic.evaluation.held_out_queries import (
    TrainingJudgements,
    held_out_hashes,
    record_training,
    require_not_held_out,
    without_held_out,
)
from pg_semantic.evaluation.history import Change, change, require_not_worse, save
from pg_semantic.evaluation.interleaving import InterleavingOutcome, interleaving_outcome
from pg_semantic.evaluation.judgements import Judgements
from pg_semantic.evaluation.query_hash import normalized, query_hash
from pg_semantic.evaluation.report import Details, Evaluation, PairedDifference, VariantFigures
from pg_semantic.evaluation.split import Split, split
from pg_semantic.evaluation.variants import Variant, parse_variant, parse_variants

__all__ = [
    "Change",
    "Details",
    "Evaluation",
    "EvaluationOptions",
    "InterleavingOutcome",
    "Judgements",
    "PairedDifference",
    "Split",
    "TrainingJudgements",
    "Variant",
    "VariantFigures",
    "change",
    "evaluate",
    "held_out_hashes",
    "interleaving_outcome",
    "normalized",
    "parse_variant",
    "parse_variants",
    "query_hash",
    "record_training",
    "require_not_held_out",
    "require_not_worse",
    "save",
    "split",
    "without_held_out",
]
