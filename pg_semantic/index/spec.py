"""The spec: a semantic index as plain data, on which schema, worker and search are based."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pg_semantic import errors
from pg_semantic.index import declared_types, hashing, known_encoders
from pg_semantic.index.chunking import Chunking

Storage = Literal["halfvec", "vector"]

# The most dimensions that pgvector's HNSW index supports.
MAX_DIMENSIONS: dict[Storage, int] = {"halfvec": 4000, "vector": 2000}
_MAX_STORED = 16_000  # dimensions of a vector that is not indexed itself

# Names of a chunk's own columns and relationships, which key columns cannot have.
CHUNK_COLUMNS = (
    "source",
    "ordinal",
    "content",
    "vector",
    "prefix",
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

# The name of any type, as Postgres writes it. The database checks which types a key can have.
_NAME = r'(?:[^\W\d][\w$]*|"(?:[^"\0]|"")+")'
_WORDS = r"(?: (?:varying|precision|with|without|time|zone|to|year|month|day|hour|minute|second))*"
_KEY_TYPE = re.compile(
    rf"{_NAME}(?:\.{_NAME})?{_WORDS}(?: ?\(\d+(?:, ?-?\d+)?\))?{_WORDS}(?:\[\])*(?: COLLATE {_NAME}(?:\.{_NAME})?)?",
    re.IGNORECASE,
)
# Types without an ordering, or whose text depends on something outside the database.
_NO_KEY_TYPE = re.compile(r"(pg_catalog\.)?(json|xml|money|reg[a-z]+|unknown)", re.IGNORECASE)
_IDENTIFIER_BYTES = 63
_LONGEST_SUFFIX = len("__previous_truncated_idx")
_LONGEST_PARTITION_SUFFIX = len("__previous_p255_")  # and the columns of an index, and "_idx"

# More would need too many locks: a search locks each partition and each of its indexes.
MAX_PARTITIONS = 256
_LONGEST_PROMPT = 2000


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A primary key column of the source table and its Postgres type."""

    name: str
    type: str

    def __post_init__(self) -> None:
        if self.name in CHUNK_COLUMNS:
            raise errors.DeclarationError(
                f"The key column {self.name!r} has a name that is reserved for the columns of chunks "
                f"({', '.join(CHUNK_COLUMNS)}): rename it in the source table."
            )
        if not _KEY_TYPE.fullmatch(self.type) or _NO_KEY_TYPE.fullmatch(self.type):
            raise errors.DeclarationError(
                f"The key column {self.name!r} has type {self.type}, which cannot identify a row of a semantic index: "
                "the type needs an ordering, and a text form that is the same in every session. Use another type, such "
                "as bigint, uuid or text."
            )


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The encoder of an index, and the dimensions of its vectors.

    ``query_prompt`` and ``document_prompt`` replace the encoder's own prompts. None keeps the encoder's own; an empty
    string means no prompt.
    """

    reference: str
    dimensions: int
    query_prompt: str | None = None
    document_prompt: str | None = None

    def __post_init__(self) -> None:
        declared_types.require(self, "Encoder")
        for name in ("query_prompt", "document_prompt"):
            prompt = getattr(self, name)
            if prompt and ("\0" in prompt or len(prompt) > _LONGEST_PROMPT):
                raise errors.DeclarationError(
                    f"{name} has {len(prompt)} characters: use at most {_LONGEST_PROMPT}, and no NUL."
                )

    @classmethod
    def resolve(
        cls,
        reference: str,
        dimensions: int | None,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
    ) -> "EncoderSpec":
        """Returns the spec of an encoder whose dimensions are given or in the built-in catalog.

        Raises:
            errors.DeclarationError: The dimensions are neither given nor in the catalog, or a prompt is invalid.
        """
        known = known_encoders.dimensions(str(reference)) if dimensions is None else dimensions
        if known is None:
            raise errors.DeclarationError(
                f"Encoder {reference!r} isn't in the built-in catalog: check the name, or pass dimensions=..."
            )
        return cls(reference, known, query_prompt, document_prompt)

    def __str__(self) -> str:
        declared = (("query_prompt", self.query_prompt), ("document_prompt", self.document_prompt))
        prompts = "".join(f", {name}={prompt!r}" for name, prompt in declared if prompt is not None)
        return f"{self.reference!r} ({self.dimensions} dimensions{prompts})"

    @property
    def id(self) -> int:
        """The encoder id that chunk rows store; see `hashing.encoder_id`."""
        return hashing.encoder_id(
            self.reference, self.dimensions, query_prompt=self.query_prompt, document_prompt=self.document_prompt
        )

    @property
    def prompts(self) -> known_encoders.Prompts:
        """The declared prompts."""
        return known_encoders.Prompts(self.query_prompt, self.document_prompt)

    @property
    def lacking(self) -> known_encoders.Lacking | None:
        """Prompts that the encoder expects, judging by its name, but that are not declared; None if complete."""
        return known_encoders.lacking(self.reference, declared=self.prompts)


@dataclass(frozen=True, slots=True)
class Hnsw:
    """Parameters of the vector index; the defaults are pgvector's.

    Args:
        m: Maximum number of connections per node and layer, 2 to 100.
        ef_construction: Size of the candidate list during the build, at least 4 and 2 * m, and at most 1000.

    Raises:
        errors.DeclarationError: A parameter is out of range.
    """

    m: int = 16
    ef_construction: int = 64

    def __post_init__(self) -> None:
        declared_types.require(self, "Hnsw")
        if not 2 <= self.m <= 100:  # noqa: PLR2004 - pgvector's limits
            raise errors.DeclarationError(f"Hnsw(m={self.m}) is out of range: use 2 to 100.")
        if not max(4, 2 * self.m) <= self.ef_construction <= 1000:  # noqa: PLR2004 - pgvector's limits
            raise errors.DeclarationError(
                f"Hnsw(ef_construction={self.ef_construction}) is out of range: use {max(4, 2 * self.m)} to 1000 "
                "(at least 2 * m)."
            )


@dataclass(frozen=True, slots=True)
class Compressed:
    """A vector index of less than the whole vectors, whose candidates are ranked by the whole ones.

    The same statement finds candidates through the index and orders them by the stored vectors. It takes as many
    candidates as the scan keeps, so ``ef_search`` sets both, and the recall of both stages together.

    Args:
        prefix: Index this many dimensions of the rotated vectors, as a column of their own. The rotation is a principal
            component analysis of 10,000 vectors of the table, which puts what tells them apart into the first
            dimensions. It changes no cosine.
        bits: Index the signs of the vectors, one bit per dimension.

    Raises:
        errors.DeclarationError: ``prefix`` is out of range, or not exactly one of both is given.
    """

    prefix: int | None = None
    bits: bool = False

    def __post_init__(self) -> None:
        declared_types.require(self, "Compressed")
        limit = MAX_DIMENSIONS["halfvec"]
        if (self.prefix is None) != self.bits:
            raise errors.DeclarationError(f"{self}: pass either prefix=..., such as 192, or bits=True.")
        if self.prefix is not None and not 1 <= self.prefix <= limit:
            raise errors.DeclarationError(f"Compressed(prefix={self.prefix}) is out of range: use 1 to {limit}.")

    def __str__(self) -> str:
        return "Compressed(bits=True)" if self.bits else f"Compressed(prefix={self.prefix})"


@dataclass(frozen=True, slots=True)
class Lexical:
    """How the words of a row's text are indexed for BM25.

    Args:
        config: Text search configuration of Postgres, qualified with its schema unless that is pg_catalog. ``simple``
            indexes words as they are written. None of the built-in ones finds words in text without spaces, such as
            Chinese, Japanese or Thai (docs/explanation/bm25-in-postgres.md).
        k1: How much a repeated word counts, as in Lucene; 0 to 100.
        b: How much long texts are penalized, as in Lucene; 0 to 1.

    Raises:
        errors.DeclarationError: ``config`` is empty, or a number is out of range.
    """

    config: str = "english"
    k1: float = 1.2
    b: float = 0.75

    def __post_init__(self) -> None:
        declared_types.require(self, "Lexical")
        if not self.config.strip():
            raise errors.DeclarationError(
                "Lexical(config='') is empty: name a text search configuration, such as 'english'."
            )
        if not (0 <= self.k1 <= 100 and 0 <= self.b <= 1):  # noqa: PLR2004 - beyond these, scores are meaningless
            raise errors.DeclarationError(
                f"Lexical(k1={self.k1}, b={self.b}) is out of range: k1 must be 0 to 100, b 0 to 1."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """A semantic index as plain, frozen data, the same in Python and in the database.

    ``schema`` and ``table`` name the source. A schema of None means the first one on the search path.
    """

    name: str
    table: str
    schema: str | None = None
    key: tuple[KeyColumn, ...]
    columns: tuple[str, ...]
    encoder: EncoderSpec
    chunking: Chunking | None = field(default_factory=Chunking)
    storage: Storage = "halfvec"
    compressed: Compressed | None = None
    hnsw: Hnsw = field(default_factory=Hnsw)
    lexical: Lexical | None = field(default_factory=Lexical)
    policy_column: str | None = None
    recall_objective: float | None = None  # not part of what is built: it can change without another copy
    partitions: int = 1
    partition_by: str | None = None  # a column of the key; None stands for all of them

    def __post_init__(self) -> None:
        declared_types.require(self, f"Semantic index {self.name!r}")
        self._check_names()
        self._check_columns()
        _check_recall_objective(self.name, self.recall_objective)
        _check_partitions(self.name, self.partitions)
        limit = _MAX_STORED if self.compressed else MAX_DIMENSIONS[self.storage]
        if not 1 <= self.encoder.dimensions <= limit:
            raise errors.DeclarationError(
                f"Semantic index {self.name!r}: {self.storage} supports 1 to {limit} dimensions, but "
                f"{self.encoder.reference!r} has {self.encoder.dimensions}: use another encoder or storage."
            )
        if self.prefix is not None and self.prefix >= self.encoder.dimensions:
            raise errors.DeclarationError(
                f"Semantic index {self.name!r}: {self.compressed} has no fewer dimensions than the vectors, which have "
                f"{self.encoder.dimensions}: use a shorter prefix, or storage={self.storage!r}."
            )

    @property
    def prefix(self) -> int | None:
        """The dimensions of the prefix that is indexed instead of the vector; None if there is none."""
        return self.compressed.prefix if self.compressed else None

    def _check_names(self) -> None:
        if not self.name:
            raise errors.DeclarationError("A semantic index has an empty name: pass another name=..., or omit it.")
        if self.name == self.table:
            raise errors.DeclarationError(f"{self.name!r} is the name of the source table: pass another name=...")
        suffix = self._longest_suffix()
        if len(self.name.encode()) + suffix > _IDENTIFIER_BYTES:
            raise errors.DeclarationError(
                f"The name {self.name!r} is too long: Postgres truncates names to {_IDENTIFIER_BYTES} bytes, and the "
                f"suffixes need {suffix} of them: pass a shorter name=..."
            )

    def _longest_suffix(self) -> int:
        """The bytes of the longest suffix of a table's or an index's name. Postgres names indexes of partitions."""
        if self.partitions == 1:
            return _LONGEST_SUFFIX
        indexed = ("content_hash", *([self.policy_column] if self.policy_column else []))
        return _LONGEST_PARTITION_SUFFIX + max(len(name.encode()) for name in indexed) + len("_idx")

    def _check_columns(self) -> None:
        if self.policy_column in CHUNK_COLUMNS:
            raise errors.DeclarationError(
                f"Semantic index {self.name!r}: policy_column={self.policy_column!r} is a name that is reserved for "
                f"columns of chunks ({', '.join(CHUNK_COLUMNS)}): rename the column, or omit policy_column."
            )
        if not self.key:
            raise errors.DeclarationError(f"Table {self.table!r} has no primary key, and a semantic index needs one.")
        if not self.columns:
            raise errors.DeclarationError(f"Semantic index {self.name!r} names no text column: name at least one.")
        if self.partition_by is not None and (
            self.partitions == 1 or self.partition_by not in {column.name for column in self.key}
        ):
            raise errors.DeclarationError(
                f"Semantic index {self.name!r}: partition_by={self.partition_by!r} must be a column of the primary key "
                f"of {self.table!r}, and needs partitions=... with their number."
            )
        if not all(self.columns):
            raise errors.DeclarationError(f"Semantic index {self.name!r} has an empty column name: {self.columns}.")
        if len(set(self.columns)) < len(self.columns):
            raise errors.DeclarationError(f"Semantic index {self.name!r} names a column twice: {self.columns}.")

    @property
    def receipts_name(self) -> str:
        """The name of the receipt table."""
        return f"{self.name}_receipt"

    @property
    def carried(self) -> str | None:
        """The carried column: the `policy_column` column if it isn't part of the key."""
        return None if self.policy_column in {column.name for column in self.key} else self.policy_column

    @property
    def vector_index_name(self) -> str:
        """The name of the vector index."""
        return f"{self.name}_vector_idx"

    @property
    def lexical_index_name(self) -> str:
        """The name of the lexical index."""
        return f"{self.name}_lexemes_idx"

    @property
    def capture_name(self) -> str:
        """The name of the trigger function, and the prefix of the triggers' names."""
        return f"{self.name}_capture"

    @property
    def replica_name(self) -> str:
        """The name of the row trigger and its function."""
        return f"{self.capture_name}_replica"

    def to_json(self) -> dict[str, Any]:
        """Returns the spec as JSON types, for the registry and for migrations."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "IndexSpec":
        """Returns the spec that `to_json` wrote."""
        return cls(
            name=data["name"],
            table=data["table"],
            schema=data["schema"],
            key=tuple(KeyColumn(**column) for column in data["key"]),
            columns=tuple(data["columns"]),
            encoder=EncoderSpec(**data["encoder"]),
            chunking=Chunking(**data["chunking"]) if data["chunking"] else None,
            storage=data["storage"],
            compressed=Compressed(**data["compressed"]) if data.get("compressed") else None,
            hnsw=Hnsw(**data["hnsw"]),
            lexical=Lexical(**data["lexical"]) if data.get("lexical") else None,  # older specs don't have it
            policy_column=data.get("policy_column"),
            recall_objective=data.get("recall_objective"),
            partitions=data.get("partitions", 1),  # specs from before partitions don't have these two
            partition_by=data.get("partition_by"),
        )


def _check_recall_objective(name: str, objective: float | None) -> None:
    if objective is not None and not 0 < objective < 1:
        raise errors.DeclarationError(
            f"Semantic index {name!r}: recall_objective={objective!r} must be a number between 0 and 1, such as 0.95, "
            "or None."
        )


def _check_partitions(name: str, partitions: int) -> None:
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise errors.DeclarationError(
            f"Semantic index {name!r}: partitions={partitions!r} must be a number from 1 to {MAX_PARTITIONS}. Each "
            "partition makes searches slower: choose as few as memory allows."
        )
