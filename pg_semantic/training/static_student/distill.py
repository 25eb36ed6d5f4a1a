"""Distills an index's encoder into a table of words: `distill_static`.

The index has a vector of the encoder for the text of each chunk, so most of what the student learns from is there
already. Only words and short texts are encoded.
"""

import dataclasses
from pathlib import Path
from typing import Any

from sqlalchemy import orm

from pg_semantic import settings
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import Judgements, existing_rows
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker, legs
from pg_semantic.search.generation_tracker import Target
from pg_semantic.training import base_encoder, folder, pairs, report, tenants
from pg_semantic.training.base_encoder import BaseEncoder
from pg_semantic.training.pace import OnStep
from pg_semantic.training.pairs import Pair
from pg_semantic.training.query_side import folds, training_queries
from pg_semantic.training.query_side.training_queries import TrainingQueries
from pg_semantic.training.report import Gain, Measured
from pg_semantic.training.static_student import fit, lesson, static_record, teacher_chunks
from pg_semantic.training.static_student import student as student_vectors
from pg_semantic.training.static_student.bags import Bags
from pg_semantic.training.static_student.fit import FittedTable, TableRecipe
from pg_semantic.training.static_student.lesson import Lesson
from pg_semantic.training.static_student.report import StaticReport
from pg_semantic.training.static_student.static_training import StaticTraining
from pg_semantic.training.static_student.student import Student
from pg_semantic.training.static_student.teacher_chunks import TeacherChunks
from pg_semantic.training.static_student.teacher_vectors import BLOCK, TeacherVectors
from pg_semantic.training.time_limit import TimeLimit

_VOCABULARY = 30_000  # about how many words are encoded, to plan with


def distill_static(
    session: orm.Session,
    index: BoundIndex[Any],
    *,
    out: Path,
    options: StaticTraining = StaticTraining(),  # noqa: B008 - frozen
    judgements: Judgements | None = None,
    on_step: OnStep = lambda *_: None,
) -> StaticReport:
    """Distills the live generation's encoder into a table of words: a student, written to a folder.

    The student's vector of a text is the mean of those of its words, so it takes next to no time on a CPU, and ignores
    their order. It is an encoder of its own: a generation with it encodes all rows again.

    Unless ``options.vocabulary`` is ``encoder``, the folder contains words of the rows: each one that occurs in at
    least ``options.least_rows`` different rows. It contains no other text of a row.

    Args:
        session: Reads chunks and stored vectors; row-level security applies. A transaction that this begins ends after
            reading.
        index: The semantic index, such as ``Article.semantic``.
        out: A folder that doesn't exist or is empty.
        options: What to make, and for how long.
        judgements: What to measure the student with. They choose nothing.
        on_step: Called after each step, with how many steps are done and how many are planned at most.

    Raises:
        errors.ConfigurationError: The folder isn't empty, the index has too few rows, or the time is too short.
        errors.EncoderError: The encoder has no weights here, is quantized, or was trained before.
        errors.EncoderMismatch: The stored vectors come from other weights.
        errors.QueryError: A condition is on another table, or is missing although the role bypasses row-level security.
    """
    limit, out = TimeLimit(options.seconds), out.resolve()
    folder.require_free(out)
    source = _read(session, index, judgements, options=options, limit=limit)
    found, student, recipe = _distill(index.name, source, options, limit=limit, on_step=on_step)
    record = static_record.of(found, source.base.encoder, recipe=recipe, options=options)
    made = student.transformer()
    folder.write(out, made, base=made, record=record)
    return dataclasses.replace(found, folder=out, seconds=round(limit.elapsed, 1))


@dataclasses.dataclass(frozen=True, slots=True)
class _TeacherData:
    """What is read: the encoder, the chunks that it encoded, and which rows answer which queries."""

    base: BaseEncoder
    chunks: TeacherChunks
    asked: list[Pair]


def _read(
    session: orm.Session,
    index: BoundIndex[Any],
    judgements: Judgements | None,
    *,
    options: StaticTraining,
    limit: TimeLimit,
) -> _TeacherData:
    filters = legs.conditions(options.where)
    legs.require_own(index, filters)
    with own_transaction.reading(session):
        live, _ = generation_tracker.read_live(session, index)
        tenants.require_separate(generation_tracker.connect(session, index), index, filters)
    before = limit.elapsed
    base = base_encoder.load(live, settings.load(), from_trained=options.from_trained)
    limit.reserved = limit.elapsed - before  # the student is written, and loaded to check it
    limit.require_not_over("loading the encoder")
    asked = pairs.from_judgements(judgements) if judgements else []
    with own_transaction.reading(session):
        bound = Target(live, live.tables, None).bound(index)
        chunks = teacher_chunks.read(session, bound, most=options.chunks, where=filters, seed=options.seed)
        canonical = existing_rows.canonical(session, index, {pair.key for pair in asked})
    limit.require_not_over("reading")
    return _TeacherData(
        base, chunks, [dataclasses.replace(pair, key=canonical.get(pair.key, pair.key)) for pair in asked]
    )


def _distill(
    index: str, source: _TeacherData, options: StaticTraining, *, limit: TimeLimit, on_step: OnStep
) -> tuple[StaticReport, Student, TableRecipe]:
    """Returns the report, the student, and how it was trained."""
    recipe = TableRecipe(epochs=options.epochs, seed=options.seed)
    asked = _JudgedQueries.of(source, limit)
    limit.require_not_over("reading and measuring")
    teacher = TeacherVectors(source.base.encoder, limit, planned=_planned(source, recipe, options), on_step=on_step)
    taught = lesson.prepare(source.base, source.chunks, options, teacher=teacher)
    measure, on_epoch = taught.held_out.overlap, teacher.following
    fitted = fit.fit(taught.first, taught.examples, recipe=recipe, measure=measure, limit=limit, on_step=on_epoch)
    student = Student(taught.tokenizer, fitted.table)
    return _report(index, source, student, taught=taught, fitted=fitted, asked=asked), student, recipe


def _planned(source: _TeacherData, recipe: TableRecipe, options: StaticTraining) -> int:
    """Returns about how many steps everything has."""
    spans = min(options.spans, 10 * len(source.chunks.texts))
    return recipe.epochs * recipe.steps(len(source.chunks.texts) + spans) + (spans + _VOCABULARY) // BLOCK


def _report(
    index: str,
    source: _TeacherData,
    student: Student,
    *,
    taught: Lesson,
    fitted: FittedTable,
    asked: "_JudgedQueries",
) -> StaticReport:
    """Returns the report of a student that wasn't written yet."""
    return StaticReport(
        index=index,
        folder=None,
        dimensions=fitted.table.shape[1],
        vocabulary=len(fitted.table),
        words=taught.words,
        chunks=taught.chunks,
        spans=taught.spans,
        is_sample=source.chunks.stored.is_sample,
        epochs=fitted.epochs,
        held_out=len(taught.held_out.own),
        overlap=fitted.measured,
        judged=asked.gain(student, chunks=taught.held_out.chunks),
        gone=asked.known.gone,
        seconds=0.0,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _JudgedQueries:
    """Judged queries, and how well the encoder ranks their answers; None if there are no queries."""

    known: TrainingQueries
    before: Measured | None

    @classmethod
    def of(cls, source: _TeacherData, limit: TimeLimit) -> "_JudgedQueries":
        """Measures the encoder, and reserves the time to measure the student just so."""
        known = training_queries.of(source.asked, source.chunks.stored)
        if not known.queries:
            return cls(known, None)
        vectors = source.base.encoder.encode_queries(known.queries)
        started = limit.elapsed
        before = training_queries.ndcg(known, range(len(known.queries)), vectors)
        limit.reserved += limit.elapsed - started
        return cls(known, before)

    def gain(self, student: Student, *, chunks: Bags) -> Gain | None:
        """Compares the student with the encoder.

        Args:
            student: The student.
            chunks: The tokens of all chunks.
        """
        if self.before is None:
            return None
        own = dataclasses.replace(self.known.stored, vectors=student_vectors.vectors(student.table, chunks))
        queries = student.encode(self.known.queries)
        known = dataclasses.replace(self.known, stored=own)
        after = training_queries.ndcg(known, range(len(queries)), queries)
        return report.gain(self.before, after, seed=0, components=folds.component_numbers(self.known))
