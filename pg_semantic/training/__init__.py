"""Trains encoders on a semantic index: pairs of a query and its answer, hard negatives, the queries' side."""

from pg_semantic.training.mining.choose_negatives import Mining
from pg_semantic.training.mining.mine import mine
from pg_semantic.training.mining.mined import Mined, MinedPair, MiningReport, ScoredChunk, ScoreQuantiles
from pg_semantic.training.pair_files import read_mined, read_pairs, write_mined, write_pairs
from pg_semantic.training.pairs import Pair, from_column, from_judgements, from_select
from pg_semantic.training.query_side.query_training import QueryTraining
from pg_semantic.training.query_side.train import train_query_side
from pg_semantic.training.report import Gain, TrainingReport

__all__ = [
    "Gain",
    "Mined",
    "MinedPair",
    "Mining",
    "MiningReport",
    "Pair",
    "QueryTraining",
    "ScoreQuantiles",
    "ScoredChunk",
    "TrainingReport",
    "from_column",
    "from_judgements",
    "from_select",
    "mine",
    "read_mined",
    "read_pairs",
    "train_query_side",
    "write_mined",
    "write_pairs",
]
