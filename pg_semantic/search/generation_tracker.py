"""Which generation of an index a searcher queries, and with which encoder: `GenerationTracker`, or `PinnedGeneration`.

A searcher queries a generation by names that don't change with its role, so a switch during a search mixes nothing: the
previous generation is kept in sync. The statement of every search also reads which generation is live. If that is
another one, its encoder is loaded on a thread while searches continue with the previous generation.
"""

import dataclasses
import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import encoders, errors, registry
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation

T = TypeVar("T")
IndexPlace: TypeAlias = tuple[str | None, str, bool]  # schema and name of an index, and whether queries are encoded

log = logging.getLogger("pg_semantic.search")

# Older knowledge is confirmed before it is used. After a switch, `generation drop` waits for longer than this.
FRESH_SECONDS = 2.0
_AGAIN_SECONDS = 30.0  # until the next attempt to load an encoder that failed to load


@dataclass(frozen=True, slots=True)
class Target:
    """The generation to query, and the encoder for the queries; None if they are not encoded."""

    generation: Generation
    tables: Tables
    encoder: BatchingEncoder | None

    def accepts(self, fingerprint: str | None) -> bool:
        """Whether the encoder is the one with this fingerprint. None, and a target without encoder, accept any."""
        return self.encoder is None or fingerprint in {None, self.encoder.fingerprint}

    def bound(self, index: BoundIndex[T]) -> BoundIndex[T]:
        """Returns the declared index, bound to the tables of this generation."""
        declared = index.tables
        tables = dataclasses.replace(self.tables, source=declared.source, declared=declared.chunks)
        return dataclasses.replace(index, tables=tables)


@dataclass(frozen=True, slots=True)
class GenerationChanged:
    """The queried generation is not the live one, or has vectors from another encoder than expected.

    Attributes:
        live: The live generation.
        before: The queried generation. None if it cannot be queried any more: it was dropped, belongs to an index of
            the same name in another schema, or has vectors from another encoder.
    """

    live: Generation
    before: Target | None


@dataclass(slots=True)
class _Known:
    """What is known of an index: the target now, when it was last confirmed, and earlier targets by generation.

    An equal target from earlier is used again, so that its cached statements are found again.
    """

    target: Target | None = None
    confirmed_at: float = float("-inf")
    targets: dict[int, Target] = field(default_factory=dict)


@dataclass(slots=True)
class _OtherEncoder:
    """An encoder that was loaded, or is to be, besides the searcher's own. The lock is held while it is loaded."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    loaded: BatchingEncoder | None = None
    not_before: float = 0.0  # the next attempt


class GenerationTracker:
    """What one searcher knows about the indexes that it searches, for each engine. Thread-safe.

    Attributes:
        fresh_seconds: For how long a generation is queried before it is confirmed again.
    """

    def __init__(
        self, encoder: BatchingEncoder | None, *, follow: bool, load: Callable[[EncoderSpec], BatchingEncoder]
    ) -> None:
        self.fresh_seconds = FRESH_SECONDS
        self._given = encoder
        self._follow = follow
        self._loader = load
        self._indexes: weakref.WeakKeyDictionary[sa.Engine, dict[IndexPlace, _Known]] = weakref.WeakKeyDictionary()
        # By encoder, so that one that cannot be loaded does not affect the indexes of another.
        self._others: dict[int, _OtherEncoder] = {}

    def current(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> Target | None:
        """Returns the generation to query; None before the first `use`."""
        return self._known(engine, index, encodes=encodes).target

    def is_fresh(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> bool:
        """Whether that generation was confirmed in the last ``fresh_seconds``."""
        return time.monotonic() - self._known(engine, index, encodes=encodes).confirmed_at < self.fresh_seconds

    def use(
        self, engine: sa.Engine, index: BoundIndex[Any], live: Generation, *, before: Target | None, encodes: bool
    ) -> Target:
        """Sets the generation to query from now on, and returns it with its encoder.

        Args:
            before: Stays in use until the encoder of the live generation has been loaded on a thread. If None, this
                call loads the encoder, which can take seconds.

        Raises:
            errors.QueryError: The searcher has no encoder.
            errors.EncoderMismatch: The vectors come from another encoder, which is not available.
        """
        if not encodes:
            target = Target(live, live.tables, None)
        elif self._has(live) or before is None or not self._follow:
            target = Target(live, live.tables, self._encoder(live))
        else:
            self._load_in_background(live)
            target = before
        known = self._known(engine, index, encodes=encodes)
        earlier = known.targets.setdefault(target.generation.id, target)
        if (earlier.generation, earlier.encoder) != (target.generation, target.encoder):
            known.targets[target.generation.id] = earlier = target
        known.target, known.confirmed_at = earlier, time.monotonic()
        return earlier

    @staticmethod
    def is_current(target: Target, live: int, fingerprint: str | None) -> bool:
        """Whether what a search has read confirms its target: the id of the live generation, and a fingerprint."""
        return live == target.generation.id and target.accepts(fingerprint)

    def confirm(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> None:
        """Records that a search has just confirmed its generation."""
        self._known(engine, index, encodes=encodes).confirmed_at = time.monotonic()

    def _known(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> _Known:
        place = index.spec.schema, index.spec.name, encodes
        return self._indexes.setdefault(engine, {}).setdefault(place, _Known())

    def _other(self, live: Generation) -> _OtherEncoder:
        return self._others.setdefault(live.spec.encoder.id, _OtherEncoder())

    def _has(self, live: Generation) -> bool:
        return self._fits(live) or self._other(live).loaded is not None

    def _fits(self, live: Generation) -> bool:
        given = self._given
        return (
            given is not None
            and given.dimensions == live.spec.encoder.dimensions
            and live.fingerprint in {None, given.fingerprint}
        )

    def _encoder(self, live: Generation) -> BatchingEncoder:
        given = self._given
        if given is None:
            raise errors.QueryError("This searcher has no encoder: create it with one, or search with mode='lexical'.")
        if self._fits(live):
            return given
        other = self._other(live)
        if other.loaded:
            return other.loaded
        if not self._follow or _would_load(live.spec.encoder, given):
            raise mismatch(live, given)
        with other.lock:
            return other.loaded or self._load(live)

    def _load(self, live: Generation) -> BatchingEncoder:
        spec = live.spec.encoder
        fields = {"event": "encoder_followed", "index": live.qualified_name}
        log.warning("%s uses encoder %s: loading it", live.qualified_name, spec.reference, extra=fields)
        encoder = self._loader(spec)
        if live.fingerprint not in {None, encoder.fingerprint}:
            raise mismatch(live, encoder)
        self._other(live).loaded = encoder
        return encoder

    def _load_in_background(self, live: Generation) -> None:
        """Loads an encoder on a thread, unless this is in progress or failed a moment ago."""
        other = self._other(live)
        if time.monotonic() >= other.not_before and other.lock.acquire(blocking=False):
            other.not_before = time.monotonic() + _AGAIN_SECONDS  # unless this succeeds
            threading.Thread(target=self._load_and_release, args=(live,), daemon=True).start()

    def _load_and_release(self, live: Generation) -> None:
        try:
            self._load(live)
            self._other(live).not_before = 0.0
        except errors.PgSemanticError as error:
            fields = {"event": "encoder_not_followed", "index": live.qualified_name}
            log.error("%s is still searched in its previous generation: %s", live.qualified_name, error, extra=fields)  # noqa: TRY400 - the message is enough
        finally:
            self._other(live).lock.release()


class PinnedGeneration(GenerationTracker):
    """Always queries one generation, whether it is live or not: to compare generations.

    Args:
        target: The generation, and the encoder for its queries.

    Raises:
        errors.EncoderMismatch: The encoder isn't the one that computed the generation's vectors.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target.encoder, follow=False, load=load)
        if target.encoder is not None and not target.accepts(target.generation.fingerprint):
            raise mismatch(target.generation, target.encoder)
        self._encoding, self._not_encoding = target, dataclasses.replace(target, encoder=None)

    def current(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> Target:  # noqa: ARG002
        """Returns the pinned generation."""
        return self._encoding if encodes else self._not_encoding

    def is_fresh(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> bool:  # noqa: ARG002
        """Returns True: there is nothing to confirm before a search."""
        return True

    def use(
        self,
        engine: sa.Engine,
        index: BoundIndex[Any],
        live: Generation,  # noqa: ARG002
        *,
        before: Target | None,
        encodes: bool,
    ) -> Target:
        """Returns the pinned generation. Raises `errors.GenerationError` if it was dropped."""
        if before is None:
            raise errors.GenerationError(f"{self._encoding.generation.title} was dropped while it was searched.")
        return self.current(engine, index, encodes=encodes)

    @staticmethod
    def is_current(target: Target, live: int, fingerprint: str | None) -> bool:  # noqa: ARG004
        """Whether the vectors come from the encoder of the target."""
        return target.accepts(fingerprint)

    def confirm(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> None:
        """Does nothing."""


def _would_load(spec: EncoderSpec, given: BatchingEncoder) -> bool:
    """Whether loading a spec's encoder would return ``given`` again: same reference and dimensions, no own prompts."""
    same_name = given.reference == spec.reference and given.dimensions == spec.dimensions
    return same_name and spec.prompts == Prompts()


def load(spec: EncoderSpec) -> BatchingEncoder:
    """Loads the encoder of a spec by its reference. Raises what `encoders.load` raises."""
    loaded: Encoder = encoders.load(
        spec.reference,
        dimensions=spec.dimensions,
        query_prompt=spec.query_prompt,
        document_prompt=spec.document_prompt,
    )
    return BatchingEncoder(loaded)


def connect(session: orm.Session, index: BoundIndex[Any]) -> sa.Connection:
    """Returns the session's connection to the database of an index."""
    return session.connection(bind_arguments={"mapper": sa.inspect(index.entity, raiseerr=True).mapper})


def read_live(session: orm.Session, index: BoundIndex[Any]) -> tuple[Generation, frozenset[int]]:
    """Reads the live generation and the numbers of all generations. Raises `errors.IndexNotFound`."""
    connection = connect(session, index)
    return registry.live(connection, index.tables)


def mismatch(live: Generation, encoder: BatchingEncoder) -> errors.EncoderMismatch:
    """Returns the error for an encoder that did not make the vectors."""
    spec = live.spec.encoder
    return errors.EncoderMismatch(
        f"Semantic index {live.name!r} has vectors from {spec.reference!r} ({spec.dimensions} dimensions, "
        f"fingerprint {_short(live.fingerprint)}), but the searcher uses {encoder.reference!r} "
        f"({encoder.dimensions} dimensions, fingerprint {_short(encoder.fingerprint)}). {_advice(live, encoder)}"
    )


def _advice(live: Generation, encoder: BatchingEncoder) -> str:
    spec = live.spec.encoder
    if (spec.reference, spec.dimensions, spec.prompts) != (encoder.reference, encoder.dimensions, Prompts()):
        return f"Search with the same encoder{_with_prompts(spec)}."
    return (
        "They have the same name but other weights, files or prompts"
        f"{f': the index was built with {live.revision}' if live.revision else ''}. Search with the same "
        f"ones, for a hub name as in {spec.reference}@REVISION, or build the index again with those that you have: "
        f"`pg-semantic generation begin {live.name} --encoder {spec.reference}@REVISION`."
    )


def _with_prompts(spec: EncoderSpec) -> str:
    declared = {"query_prompt": spec.query_prompt, "document_prompt": spec.document_prompt}
    said = ", ".join(f"{name}={prompt!r}" for name, prompt in declared.items() if prompt is not None)
    return f", loaded with {said}" if said else ""


def bound_engine(session: orm.Session, index: BoundIndex[Any]) -> sa.Engine | None:
    """Returns what `engine_of` returns, or None for a session that is not bound yet."""
    try:
        return engine_of(session, index)
    except sa.exc.UnboundExecutionError:
        return None


def engine_of(session: orm.Session, index: BoundIndex[Any]) -> sa.Engine:
    """Returns the engine that a session uses for the rows of an index."""
    return session.get_bind(sa.inspect(index.entity, raiseerr=True).mapper).engine


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "not recorded yet")[:16]
