"""The spec: a semantic index as plain data, which schema, worker and search all start from."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pg_semantic import errors
from pg_semantic.index import encoder_catalog, hashing
from pg_semantic.index.chunking import Chunking

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

# The name of a type as Postgres writes it: of any type, since what a key can be is checked in the database.
_NAME = r'(?:[^\W\d][\w$]*|"(?:[^"\0]|"")+")'
_WORDS = r"(?: (?:varying|precision|with|without|time|zone|to|year|month|day|hour|minute|second))*"
_KEY_TYPE = re.compile(
    rf"{_NAME}(?:\.{_NAME})?{_WORDS}(?: ?\(\d+(?:, ?-?\d+)?\))?{_WORDS}(?:\[\])*(?: COLLATE {_NAME}(?:\.{_NAME})?)?",
    re.IGNORECASE,
)
# Types without an order, or whose text depends on what is not in the database.
_NO_KEY_TYPE = re.compile(r"(pg_catalog\.)?(json|xml|money|reg[a-z]+|unknown)", re.IGNORECASE)
_IDENTIFIER_BYTES = 63
_LONGEST_SUFFIX = len("__previous_truncated_idx")
_LONGEST_PROMPT = 2000


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
        if not _KEY_TYPE.fullmatch(self.type) or _NO_KEY_TYPE.fullmatch(self.type):
            raise errors.DeclarationError(
                f"The key column {self.name!r} has type {self.type}, which cannot identify a row of a semantic index: "
                "it needs an order and a text that is the same in every session. Use another type, such as bigint, "
                "uuid or text."
            )


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Which encoder makes the vectors, and of how many dimensions.

    ``query_prompt`` and ``document_prompt`` are put before texts in place of the encoder's own prompts: None leaves
    them to the encoder, an empty text is no prompt.
    """

    reference: str
    dimensions: int
    query_prompt: str | None = None
    document_prompt: str | None = None

    def __post_init__(self) -> None:
        for name in ("query_prompt", "document_prompt"):
            prompt = getattr(self, name)
            if prompt is not None and not isinstance(prompt, str):
                raise errors.DeclarationError(f"{name}={prompt!r}: give a text, or None for the encoder's own prompt.")
            if prompt and ("\0" in prompt or len(prompt) > _LONGEST_PROMPT):
                raise errors.DeclarationError(
                    f"{name} has {len(prompt)} characters: give a text of at most {_LONGEST_PROMPT}, without NUL."
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
        """The spec of an encoder whose dimensions are given or in the catalog."""
        known = encoder_catalog.dimensions(reference) if dimensions is None else dimensions
        if known is None:
            raise errors.DeclarationError(
                f"How many dimensions has encoder {reference!r}? It is not in the catalog: pass dimensions=..."
            )
        return cls(reference, known, query_prompt, document_prompt)

    def __str__(self) -> str:
        declared = (("query_prompt", self.query_prompt), ("document_prompt", self.document_prompt))
        prompts = "".join(f", {name}={prompt!r}" for name, prompt in declared if prompt is not None)
        return f"{self.reference!r} ({self.dimensions} dimensions{prompts})"

    @property
    def id(self) -> int:
        """The number that chunk rows carry; see `hashing.encoder_id`."""
        return hashing.encoder_id(
            self.reference, self.dimensions, query_prompt=self.query_prompt, document_prompt=self.document_prompt
        )

    @property
    def prompts(self) -> encoder_catalog.Prompts:
        """The declared prompts."""
        return encoder_catalog.Prompts(self.query_prompt, self.document_prompt)

    @property
    def lacking(self) -> encoder_catalog.Lacking | None:
        """What it lacks, before it is loaded, if it looks like an encoder that expects prompts and none is declared."""
        return encoder_catalog.lacking(self.reference, declared=self.prompts)

    def makes_the_vectors_of(self, other: "EncoderSpec") -> bool:
        """Whether its vectors of documents are those of another: a prompt of queries does not change them."""
        return (self.reference, self.dimensions, self.document_prompt) == (
            other.reference,
            other.dimensions,
            other.document_prompt,
        )


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

    ``config`` is a text search configuration of Postgres, with its schema where that is not pg_catalog; ``simple``
    takes words as they are written. None finds words in text without spaces, such as Chinese, Japanese or Thai
    (docs/search.md). ``k1`` says how much a repeated word counts, ``b`` how much a long text is held against it;
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
    rights_by: str | None = None

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
        if self.rights_by in CHUNK_COLUMNS:
            raise errors.DeclarationError(
                f"Semantic index {self.name!r}: rights_by={self.rights_by!r} is a name that chunks keep for themselves "
                f"({', '.join(CHUNK_COLUMNS)}); rename the column, or leave rights_by out."
            )
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
    def carried(self) -> str | None:
        """The column that chunks and receipts have besides the key, for policies to look at."""
        return None if self.rights_by in {column.name for column in self.key} else self.rights_by

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
            rights_by=data.get("rights_by"),
        )
