"""Tracks which generations a worker serves, with the encoder of each, and which it cannot serve and why."""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, registry
from pg_semantic.database import transaction
from pg_semantic.encoders import Encoder
from pg_semantic.encoders.token_meter import Metered
from pg_semantic.index import chunking
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.registry import Generation
from pg_semantic.settings import Settings
from pg_semantic.worker import problems
from pg_semantic.worker.catalog_watcher import CatalogWatcher
from pg_semantic.worker.token_usage import TokenUsage

log = logging.getLogger("pg_semantic.worker")

_REFRESH_SECONDS = 0.5
_REST_FACTOR = 10  # times as long as it took to read the registry, which is long with many indexes
_SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ServedGeneration:
    """A generation with what is needed to sync it."""

    generation: Generation
    tables: Tables
    encoder: Encoder

    def has_vectors_for(self, other: "ServedGeneration") -> bool:
        """Returns whether the other generation of the same index needs exactly the vectors that this one has.

        The two encoders may encode queries differently: vectors of queries aren't stored.
        """
        one, two = self.generation, other.generation
        same = self.encoder.document_fingerprint == other.encoder.document_fingerprint
        same_storage = one.spec.storage == two.spec.storage
        return same and same_storage and one.id != two.id and one.qualified_name == two.qualified_name


class ServedIndexes:
    """Follows the registry: serves new generations, forgets dropped ones, and retries those with a problem.

    Args:
        engine: The worker's engine.
        settings: What `encoders.load` needs.
        usage: Limits and counts the tokens of remote encoders.
        load: Loads an encoder.
        retry_seconds: How long a refused generation waits.

    Attributes:
        served: The generations in service, by id.
        refused: Why other generations aren't served, by id.
        index_id: The only semantic index to serve; None for all.
    """

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        *,
        usage: TokenUsage,
        load: Callable[..., Encoder],
        retry_seconds: float,
    ) -> None:
        self.served: dict[int, ServedGeneration] = {}
        self.refused: dict[int, errors.PgSemanticError] = {}
        self.index_id: int | None = None
        self._engine = engine
        self._settings = settings
        self._usage = usage
        self._load = load
        self._retry_seconds = retry_seconds
        self._encoders: dict[int, Encoder] = {}
        self._known: dict[int, Generation] = {}
        self._detection = CatalogWatcher(engine)
        self._retry_at: dict[int, float] = {}
        self._refresh_at = 0.0
        self._settle_at = 0.0

    def refresh(self, *, at_once: bool = False) -> bool:
        """Reads the registry again if the last time was a while ago, and loads new encoders, which takes seconds.

        Args:
            at_once: Whether to read it now in any case.

        Returns:
            Whether it was read: not if that was a moment ago, or if the server is too busy.
        """
        if not at_once and time.monotonic() < self._refresh_at:
            return False
        began = time.monotonic()
        found = self._read()
        read_seconds = time.monotonic() - began
        if found is None:
            self._refresh_at = time.monotonic() + _REFRESH_SECONDS
            return False
        self._known = found
        self._detection.look(list(self._known.values()), at_once=at_once)
        for dropped in self.refused.keys() - self._known.keys():
            del self.refused[dropped]
        self.served = {number: one for number, one in self.served.items() if number in self._known}
        for number, generation in self._known.items():
            ready = self._serve(generation)
            if ready is not self.served.get(number):  # served at once, so its edits don't wait for the next encoder
                others = {known: one for known, one in self.served.items() if known != number}
                self.served = others if ready is None else others | {number: ready}
        self._refresh_at = time.monotonic() + max(_REFRESH_SECONDS, _REST_FACTOR * read_seconds)
        return True

    @property
    def unfinished(self) -> list[errors.PgSemanticError]:
        """Why indexes aren't served or fully captured."""
        return [*self.refused.values(), *self._detection.refused]

    @property
    def is_validating(self) -> bool:
        """Whether foreign keys are being validated alongside the sync."""
        return self._detection.is_validating

    def close(self) -> None:
        """Stops the work alongside the sync; it starts again later."""
        self._detection.close()

    def sisters(self, served: ServedGeneration) -> list[Tables]:
        """Returns the tables of other generations of the same index that have reusable vectors."""
        return [one.tables for one in list(self.served.values()) if one.has_vectors_for(served)]

    def refuse(self, generation_id: int, error: errors.PgSemanticError) -> None:
        """Skips a generation for a while, so that its problem doesn't affect the others.

        Ignores errors of a generation that was dropped: the next refresh forgets it.
        """
        self._refresh_at = 0.0
        refused = isinstance(error, errors.DatabaseError | errors.IndexNotFound)
        known = self._read() if refused else None
        if known is not None and generation_id not in known:
            return
        generation = self._known.get(generation_id)
        name = generation.title if generation else f"generation {generation_id}"
        if generation is not None and generation.role != "live" and generation.apart is None:
            error = type(error)(
                f"{error} Searches don't use this copy: `pg-semantic generation drop {generation.name} "
                f"{generation.role}` drops it and leaves the others."
            )
        log.error("%s is not kept in sync: %s", name, error, extra={"event": "refused", "index": name})
        self.refused[generation_id] = error
        self._retry_at[generation_id] = time.monotonic() + self._retry_seconds
        problems.note(
            self._engine,
            generation_id,
            "sync",
            reason=str(error),
            first_seconds=self._retry_seconds,
            most_seconds=self._retry_seconds,
        )

    @contextlib.contextmanager
    def isolating_failures(self, generation_id: int) -> Iterator[None]:
        """Keeps the failure of one index from stopping the others.

        If the database rejects a statement in the ``with`` block, skips the generation for a while. Does nothing if the
        server is only busy.

        Args:
            generation_id: The generation that the block works on.

        Raises:
            sqlalchemy.exc.DBAPIError: The connection was lost, which concerns all indexes.
        """
        try:
            yield
        except exc.DBAPIError as error:
            if database.is_connection_lost(error):
                raise
            if not transaction.is_busy(error):
                self.refuse(generation_id, database.translate(error))

    def settle(self, waiting: Collection[int], *, at_once: bool = False) -> None:
        """Records that the problems of served generations are over, once none of their rows are waiting.

        Args:
            waiting: The generations with waiting rows.
            at_once: Whether to do it even if the last time was a few seconds ago.
        """
        if not at_once and time.monotonic() < self._settle_at:
            return
        self._settle_at = time.monotonic() + _SETTLE_SECONDS
        healthy = self.served.keys() - set(waiting)
        with transaction.unless_busy(), transaction.begin(self._engine) as connection:
            problems.forget(connection, healthy, "sync")

    def refuse_encoder(self, encoder_id: int, error: errors.PgSemanticError) -> None:
        """Skips every generation of an encoder that cannot be used, so that they don't each fail."""
        for number, served in list(self.served.items()):
            if served.generation.spec.encoder.id == encoder_id:
                self.refuse(number, error)

    def is_left_alone(self, generation_id: int) -> bool:
        """Returns whether a generation was refused a short while ago."""
        return self._retry_at.get(generation_id, 0) > time.monotonic()

    def is_remote(self, generation_id: int) -> bool:
        """Returns whether a generation that is served has an encoder whose tokens cost something."""
        served = self.served.get(generation_id)
        return served is not None and isinstance(served.encoder, Metered)

    def encoder(self, encoder_id: int) -> Encoder:
        """Returns the encoder with this id, of a generation that is, or was just, served."""
        return self._encoders[encoder_id]

    def _serve(self, generation: Generation) -> ServedGeneration | None:
        if self.is_left_alone(generation.id):
            return None
        before = self.served.get(generation.id)
        if before is not None and before.generation == generation:
            return before
        problem = self.refused.get(generation.id)
        try:
            _require_together(generation)
            encoder = self._encoder_for(generation)
            chunking.require_room(generation.spec.chunking, encoder)
        except errors.IndexNotFound:
            return None  # dropped since the registry was read
        except (errors.EncoderError, errors.MissingExtra, errors.DeclarationError, errors.ConfigurationError) as error:
            self.refuse(generation.id, error)
            return None
        if problem is not None and self.refused.get(generation.id) is problem:  # unless another thread refused it again
            del self.refused[generation.id]
        return ServedGeneration(generation, generation.tables, encoder)

    def _read(self) -> dict[int, Generation] | None:
        """Returns the generations in the registry by id, or None if the server is too busy."""
        found: dict[int, Generation] | None = None
        with transaction.unless_busy(), transaction.begin(self._engine) as connection:
            known = registry.generations(connection)
            found = {one.id: one for one in known if self.index_id in {None, one.index_id}}
        return found  # noqa: RET504 - None if the block was skipped

    def _encoder_for(self, generation: Generation) -> Encoder:
        spec = generation.spec.encoder
        encoder = self._encoders.get(spec.id) or self._load(
            spec.reference,
            dimensions=spec.dimensions,
            query_prompt=spec.query_prompt,
            document_prompt=spec.document_prompt,
            settings=self._settings,
        )
        if isinstance(encoder, Metered):
            encoder.meter = self._usage
        self._pin(spec.id, encoder)
        self._encoders[spec.id] = encoder
        return encoder

    @transaction.retried
    def _pin(self, encoder_id: int, encoder: Encoder) -> None:
        with transaction.begin(self._engine) as connection:
            registry.pin_encoder(connection, encoder_id, encoder)


def _require_together(generation: Generation) -> None:
    if generation.gone:
        raise errors.DeclarationError(f"Semantic index {generation.name!r}: {generation.problem}.")
    if generation.apart is not None:
        raise errors.DeclarationError(
            f"Table {generation.spec.table!r} was moved to schema {generation.spec.schema!r} without its semantic "
            f"index {generation.name!r}. Move all of it next to the table: {generation.apart}."
        )
