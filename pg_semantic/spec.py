"""The spec: a semantic index as plain data, which schema, worker and search all start from."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pg_semantic import catalog, errors, hashing
from pg_semantic.chunking import Chunking

Storage = Literal["halfvec", "vector"]

# pgvector's HNSW takes at most this many dimensions.
MAX_DIMENSIONS: dict[Storage, int] = {"halfvec": 4000, "vector": 2000}

# The names that a chunk keeps for itself, as a column or a relationship; a key column can not have one of them.
CHUNK_COLUMNS = (
    "source",
    "ordinal",
    "content",
    "vector",
    "content_hash",
    "source_hash",
    "encoder_id",
    "token_count",
    "truncated",
    "embedded_at",
    "chunk_count",
    "lexemes",
    "weights",
    "weights_length",
)

# Key types whose text form reads back as the same value whatever the session's settings.
_KEY_TYPE = re.compile(
    r"(smallint|integer|bigint|uuid|text|date|bytea|numeric(\(\d+(, ?\d+)?\))?"
    r"|(varchar|char|character varying|character)(\(\d+\))?"
    r"|timestamp(\(\d\))?( (with|without) time zone)?)",
    re.IGNORECASE,
)
_IDENTIFIER_BYTES = 63
_LONGEST_SUFFIX = len("__previous_truncated_idx")


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A primary key column of the source table and its Postgres type."""

    name: str
    type: str

    def __post_init__(self) -> None:
        if self.name in CHUNK_COLUMNS:
            raise errors.DeclarationError(
                f"The key column {self.name!r} has a name that chunks keep for themselves "
                f"({', '.join(CHUNK_COLUMNS)}); rename it in the source table."
            )
        if not _KEY_TYPE.fullmatch(self.type):
            raise errors.DeclarationError(
                f"The key column {self.name!r} has type {self.type}; a semantic index needs integer, uuid, text, "
                "varchar, char, numeric, date, timestamp or bytea key columns."
            )


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Which encoder makes the vectors, and of how many dimensions."""

    reference: str
    dimensions: int

    @classmethod
    def resolve(cls, reference: str, dimensions: int | None) -> "EncoderSpec":
        """The spec of an encoder whose dimensions are given or in the catalog."""
        known = catalog.dimensions(reference) if dimensions is None else dimensions
        if known is None:
            raise errors.DeclarationError(
                f"How many dimensions has encoder {reference!r}? It is not in the catalog: pass dimensions=..."
            )
        return cls(reference, known)

    @property
    def id(self) -> int:
        """The number that chunk rows carry; see `hashing.encoder_id`."""
        return hashing.encoder_id(self.reference, self.dimensions)


@dataclass(frozen=True, slots=True)
class Hnsw:
    """Parameters of the vector index; the defaults are pgvector's."""

    m: int = 16
    ef_construction: int = 64

    def __post_init__(self) -> None:
        if not 2 <= self.m <= 100:  # noqa: PLR2004 - pgvector's limits
            raise errors.DeclarationError(f"Hnsw(m={self.m}): give 2 to 100.")
        if not max(4, 2 * self.m) <= self.ef_construction <= 1000:  # noqa: PLR2004 - pgvector's limits
            raise errors.DeclarationError(
                f"Hnsw(ef_construction={self.ef_construction}): give {max(4, 2 * self.m)} to 1000 (at least 2 * m)."
            )


@dataclass(frozen=True, slots=True)
class Lexical:
    """How the text of rows is indexed by its words, for BM25.

    ``config`` is a text search configuration of Postgres (``simple`` suits any language), with its schema where that is
    not pg_catalog. ``k1`` says how much a word that is repeated counts, ``b`` how much a long text is held against it;
    both as in Lucene.
    """

    config: str = "english"
    k1: float = 1.2
    b: float = 0.75

    def __post_init__(self) -> None:
        if not self.config.strip():
            raise errors.DeclarationError("Lexical(config=''): name a text search configuration, as 'english'.")
        if not (0 <= self.k1 <= 100 and 0 <= self.b <= 1):  # noqa: PLR2004 - beyond, a score says nothing
            raise errors.DeclarationError(f"Lexical(k1={self.k1}, b={self.b}): k1 is 0 to 100, b is 0 to 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """A semantic index as data; frozen, and the same on the Python and the database side.

    ``schema`` and ``table`` name the source; a schema of None is the first one on the search path.
    """

    name: str
    table: str
    schema: str | None = None
    key: tuple[KeyColumn, ...]
    columns: tuple[str, ...]
    encoder: EncoderSpec
    chunking: Chunking | None = field(default_factory=Chunking)
    storage: Storage = "halfvec"
    hnsw: Hnsw = field(default_factory=Hnsw)
    lexical: Lexical | None = field(default_factory=Lexical)

    def __post_init__(self) -> None:
        self._check_names()
        if self.storage not in MAX_DIMENSIONS:
            raise errors.DeclarationError(
                f"Semantic index {self.name!r}: storage={self.storage!r} is unknown; "
                f"give {' or '.join(MAX_DIMENSIONS)}."
            )
        limit = MAX_DIMENSIONS[self.storage]
        if not 1 <= self.encoder.dimensions <= limit:
            raise errors.DeclarationError(
                f"Semantic index {self.name!r}: {self.storage} takes 1 to {limit} dimensions, "
                f"{self.encoder.reference!r} has {self.encoder.dimensions}."
            )

    def _check_names(self) -> None:
        if not self.key:
            raise errors.DeclarationError(f"Table {self.table!r} has no primary key; a semantic index needs one.")
        if not self.columns:
            raise errors.DeclarationError(f"Semantic index {self.name!r} names no text column; name one or more.")
        if not all(self.columns):
            raise errors.DeclarationError(f"Semantic index {self.name!r} names a column '': {self.columns}.")
        if len(set(self.columns)) < len(self.columns):
            raise errors.DeclarationError(f"Semantic index {self.name!r} names a column twice: {self.columns}.")
        if self.name == self.table:
            raise errors.DeclarationError(f"{self.name!r} is the name of the table itself; pass another name=...")
        longest = len(self.name.encode()) + _LONGEST_SUFFIX
        if longest > _IDENTIFIER_BYTES:
            raise errors.DeclarationError(
                f"The name {self.name!r} is too long: Postgres cuts names at {_IDENTIFIER_BYTES} bytes and "
                f"{_LONGEST_SUFFIX} are needed for suffixes; pass a shorter name=..."
            )

    @property
    def receipts_name(self) -> str:
        """Name of the table with one receipt per synced row."""
        return f"{self.name}_receipt"

    @property
    def vector_index_name(self) -> str:
        """Name of the HNSW index on the vectors."""
        return f"{self.name}_vector_idx"

    @property
    def lexical_index_name(self) -> str:
        """Name of the GIN index on the lexemes."""
        return f"{self.name}_lexemes_idx"

    @property
    def capture_name(self) -> str:
        """Name of the trigger function, and the stem of the triggers' names."""
        return f"{self.name}_capture"

    @property
    def replica_name(self) -> str:
        """Name of the function of the row trigger, and of that trigger."""
        return f"{self.capture_name}_replica"

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON types, for the registry and for migrations."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "IndexSpec":
        """The spec that `to_json` wrote."""
        return cls(
            name=data["name"],
            table=data["table"],
            schema=data["schema"],
            key=tuple(KeyColumn(**column) for column in data["key"]),
            columns=tuple(data["columns"]),
            encoder=EncoderSpec(**data["encoder"]),
            chunking=Chunking(**data["chunking"]) if data["chunking"] else None,
            storage=data["storage"],
            hnsw=Hnsw(**data["hnsw"]),
            lexical=Lexical(**data["lexical"]) if data.get("lexical") else None,  # an index older than BM25 has none
        )
