"""Trains encoders and rerankers on a semantic index: pairs, hard negatives, training, static students."""

from pg_semantic.training.encoder.encoder_training import EncoderTraining
from pg_semantic.training.encoder.train import train_encoder
from pg_semantic.training.mining.choose_negatives import Mining
from pg_semantic.training.mining.mine import mine
from pg_semantic.training.mining.mined import Mined, MinedPair, MiningReport, ScoredChunk, ScoreQuantiles
from pg_semantic.training.pair_files import (
    read_mined,
    read_pairs,
    read_row_pairs,
    write_mined,
    write_pairs,
    write_row_pairs,
)
from pg_semantic.training.pairs import Pair, from_column, from_judgements, from_select
from pg_semantic.training.query_side.query_training import QueryTraining
from pg_semantic.training.query_side.train import train_query_side
from pg_semantic.training.report import Gain, TrainingReport
from pg_semantic.training.reranker.reranker_training import RerankerTraining
from pg_semantic.training.reranker.train import train_reranker
from pg_semantic.training.row_pairs import RowPair, from_rows, from_similar_rows
from pg_semantic.training.sentences import from_texts
from pg_semantic.training.static_student.distill import distill_static
from pg_semantic.training.static_student.report import StaticReport
from pg_semantic.training.static_student.static_training import StaticTraining

__all__ = [
    "EncoderTraining",
    "Gain",
    "Mined",
    "MinedPair",
    "Mining",
    "MiningReport",
    "Pair",
    "QueryTraining",
    "RerankerTraining",
    "RowPair",
    "ScoreQuantiles",
    "ScoredChunk",
    "StaticReport",
    "StaticTraining",
    "TrainingReport",
    "distill_static",
    "from_column",
    "from_judgements",
    "from_rows",
    "from_select",
    "from_similar_rows",
    "from_texts",
    "mine",
    "read_mined",
    "read_pairs",
    "read_row_pairs",
    "train_encoder",
    "train_query_side",
    "train_reranker",
    "write_mined",
    "write_pairs",
    "write_row_pairs",
]
