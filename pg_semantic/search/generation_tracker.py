"""Which generation of an index a searcher queries, and with which encoder: `GenerationTracker`.

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
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import encoders, errors, registry
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.declare import BoundIndex
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


class GenerationTracker:
    """What one searcher knows about the indexes that it searches, for each engine. Thread-safe."""

    def __init__(
        self, encoder: BatchingEncoder | None, *, follow: bool, load: Callable[[EncoderSpec], BatchingEncoder]
    ) -> None:
        self._given = encoder
        self._follow = follow
        self._loader = load
        self._loaded: dict[int, BatchingEncoder] = {}
        self._known: weakref.WeakKeyDictionary[sa.Engine, dict[IndexPlace, Target]] = weakref.WeakKeyDictionary()
        self._kept: weakref.WeakKeyDictionary[sa.Engine, dict[tuple[int, bool], Target]] = weakref.WeakKeyDictionary()
        self._confirmed: weakref.WeakKeyDictionary[sa.Engine, dict[IndexPlace, float]] = weakref.WeakKeyDictionary()
        # By encoder, so that one that cannot be loaded does not affect the indexes of another.
        self._loading: dict[int, threading.Lock] = {}
        self._not_before: dict[int, float] = {}

    def current(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> Target | None:
        """Returns the generation to query; None before the first `use`."""
        return self._known.get(engine, {}).get(_place(index, encodes=encodes))

    def is_fresh(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> bool:
        """Whether that generation was confirmed in the last `FRESH_SECONDS`."""
        confirmed = self._confirmed.get(engine, {}).get(_place(index, encodes=encodes), float("-inf"))
        return time.monotonic() - confirmed < FRESH_SECONDS

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
            serving = Target(live, live.tables, None)
        elif self._has(live) or before is None or not self._follow:
            serving = Target(live, live.tables, self._encoder(live))
        else:
            self._load_beside(live)
            serving = before
        # Reuses an equal target from earlier, so that its cached statements are found again.
        kept = self._kept.setdefault(engine, {})
        same = kept.setdefault((serving.generation.id, encodes), serving)
        if (same.generation, same.encoder) != (serving.generation, serving.encoder):
            kept[serving.generation.id, encodes] = same = serving
        self._known.setdefault(engine, {})[_place(index, encodes=encodes)] = same
        self.confirm(engine, index, encodes=encodes)
        return same

    def confirm(self, engine: sa.Engine, index: BoundIndex[Any], *, encodes: bool) -> None:
        """Records that a search has just confirmed its generation."""
        self._confirmed.setdefault(engine, {})[_place(index, encodes=encodes)] = time.monotonic()

    def _has(self, live: Generation) -> bool:
        return self._fits(live) or live.spec.encoder.id in self._loaded

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
        if loaded := self._loaded.get(live.spec.encoder.id):
            return loaded
        if not self._follow or _would_load(live.spec.encoder, given):
            raise mismatch(live, given)
        with self._lock(live):
            return self._loaded.get(live.spec.encoder.id) or self._load(live)

    def _load(self, live: Generation) -> BatchingEncoder:
        spec = live.spec.encoder
        fields = {"event": "encoder_followed", "index": live.qualified_name}
        log.warning("%s uses encoder %s: loading it", live.qualified_name, spec.reference, extra=fields)
        encoder = self._loader(spec)
        if live.fingerprint not in {None, encoder.fingerprint}:
            raise mismatch(live, encoder)
        self._loaded[spec.id] = encoder
        return encoder

    def _load_beside(self, live: Generation) -> None:
        """Loads an encoder on a thread, unless this is in progress or failed a moment ago."""
        number = live.spec.encoder.id
        if time.monotonic() >= self._not_before.get(number, 0.0) and self._lock(live).acquire(blocking=False):
            self._not_before[number] = time.monotonic() + _AGAIN_SECONDS  # unless this succeeds
            threading.Thread(target=self._load_and_release, args=(live,), daemon=True).start()

    def _load_and_release(self, live: Generation) -> None:
        try:
            self._load(live)
            self._not_before[live.spec.encoder.id] = 0.0
        except errors.PgSemanticError as error:
            fields = {"event": "encoder_not_followed", "index": live.qualified_name}
            log.error("%s is still searched in its previous generation: %s", live.qualified_name, error, extra=fields)  # noqa: TRY400 - the message is enough
        finally:
            self._lock(live).release()

    def _lock(self, live: Generation) -> threading.Lock:
        """The lock that is held while the encoder of a generation is loaded."""
        return self._loading.setdefault(live.spec.encoder.id, threading.Lock())


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
        f"({encoder.dimensions} dimensions, fingerprint {_short(encoder.fingerprint)}). "
        f"Search with the same encoder{_with_prompts(spec)}."
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


def _place(index: BoundIndex[Any], *, encodes: bool) -> IndexPlace:
    return index.spec.schema, index.spec.name, encodes


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "not recorded yet")[:16]
