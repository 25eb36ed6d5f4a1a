"""The built-in catalog of common encoders: their dimensions, and the prompts that they expect."""

import re
import shlex
from dataclasses import dataclass

_HASHED = re.compile(r"hashed:([1-9][0-9]{0,3})")

# From each encoder's own configuration (`1_Pooling/config.json`, or the last Dense module).
DIMENSIONS = {
    "sentence-transformers/all-MiniLM-L6-v2": 384,
    "sentence-transformers/all-MiniLM-L12-v2": 384,
    "sentence-transformers/all-mpnet-base-v2": 768,
    "sentence-transformers/multi-qa-MiniLM-L6-cos-v1": 384,
    "sentence-transformers/multi-qa-mpnet-base-cos-v1": 768,
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": 384,
    "sentence-transformers/paraphrase-multilingual-mpnet-base-v2": 768,
    "BAAI/bge-small-en-v1.5": 384,
    "BAAI/bge-base-en-v1.5": 768,
    "BAAI/bge-large-en-v1.5": 1024,
    "BAAI/bge-m3": 1024,
    "intfloat/e5-small-v2": 384,
    "intfloat/e5-base-v2": 768,
    "intfloat/e5-large-v2": 1024,
    "intfloat/multilingual-e5-small": 384,
    "intfloat/multilingual-e5-base": 768,
    "intfloat/multilingual-e5-large": 1024,
    "thenlper/gte-small": 384,
    "thenlper/gte-base": 768,
    "thenlper/gte-large": 1024,
    "mixedbread-ai/mxbai-embed-large-v1": 1024,
    "Qwen/Qwen3-Embedding-0.6B": 1024,
    "google/embeddinggemma-300m": 768,
    "BAAI/bge-small-en": 384,
    "BAAI/bge-base-en": 768,
    "BAAI/bge-large-en": 1024,
    "BAAI/bge-small-zh-v1.5": 512,
    "BAAI/bge-base-zh-v1.5": 768,
    "BAAI/bge-large-zh-v1.5": 1024,
    "intfloat/e5-small": 384,
    "intfloat/e5-base": 768,
    "intfloat/e5-large": 1024,
    "intfloat/multilingual-e5-large-instruct": 1024,
    "nomic-ai/nomic-embed-text-v1": 768,
    "nomic-ai/nomic-embed-text-v1.5": 768,
    "nomic-ai/nomic-embed-text-v2-moe": 768,
    "nomic-ai/modernbert-embed-base": 768,
    "Snowflake/snowflake-arctic-embed-xs": 384,
    "Snowflake/snowflake-arctic-embed-s": 384,
    "Snowflake/snowflake-arctic-embed-m": 768,
    "Snowflake/snowflake-arctic-embed-m-v1.5": 768,
    "Snowflake/snowflake-arctic-embed-l": 1024,
    "Snowflake/snowflake-arctic-embed-m-v2.0": 768,
    "Snowflake/snowflake-arctic-embed-l-v2.0": 1024,
    "Alibaba-NLP/gte-modernbert-base": 768,
    "Alibaba-NLP/gte-multilingual-base": 768,
    "Alibaba-NLP/gte-Qwen2-1.5B-instruct": 1536,
    "WhereIsAI/UAE-Large-V1": 1024,
}


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts before queries and documents. None means unspecified, an empty string no prompt."""

    query: str | None = None
    document: str | None = None

    def filled(self, other: "Prompts") -> "Prompts":
        """Returns these prompts, with unspecified ones taken from ``other``."""
        return Prompts(
            other.query if self.query is None else self.query,
            other.document if self.document is None else self.document,
        )


NO_PROMPTS = Prompts("", "")

_PASSAGE = Prompts("query: ", "passage: ")
_SEARCH = Prompts("search_query: ", "search_document: ")
_QUERY = Prompts("query: ", "")
_SENTENCE = Prompts("Represent this sentence for searching relevant passages: ", "")
_SENTENCE_ZH = Prompts("为这个句子生成表示以用于检索相关文章：", "")  # noqa: RUF001 - as in training
_WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


@dataclass(frozen=True, slots=True)
class _Family:
    """Encoders that expect the same prompts, recognized by a pattern in their names.

    ``are_in_files`` says whether sentence-transformers finds the prompts in the encoder's own files. If it doesn't,
    most encoders fine-tuned from it lack them too.
    """

    name: str
    pattern: str
    prompts: Prompts
    are_in_files: bool = False


# From the encoders' model cards; the first match wins. Never change a released prompt: an index is refused if its
# encoder's prompts differ from those that its vectors were computed with.
_FAMILIES = (
    _Family("E5 (instruct)", r"e5-(small|base|large)[^/]*-instruct", Prompts(_WEB + " ", "")),
    _Family("E5", r"(^|[/_-])e5-(small|base|large)", _PASSAGE),
    _Family("BGE", r"bge-(small|base|large)-en", _SENTENCE),
    _Family("BGE", r"bge-(small|base|large)-zh", _SENTENCE_ZH),
    _Family("Nomic Embed", r"nomic-embed-text|modernbert-embed", _SEARCH),
    _Family("Arctic Embed 2", r"arctic-embed-?2|arctic-embed-[a-z]+-v2", _QUERY, are_in_files=True),
    _Family("Arctic Embed", r"arctic-embed", _SENTENCE, are_in_files=True),
    _Family("Mixedbread", r"mxbai-embed-large", _SENTENCE, are_in_files=True),
    _Family("GTE (Qwen2)", r"gte-qwen2[^/]*-instruct", Prompts(_WEB + " ", ""), are_in_files=True),
    _Family("Qwen3 Embedding", r"qwen3-embedding", Prompts(_WEB, ""), are_in_files=True),
    _Family(
        "EmbeddingGemma",
        r"embedding-?gemma",
        Prompts("task: search result | query: ", "title: none | text: "),
        are_in_files=True,
    ),
    _Family("UAE", r"uae-large", _SENTENCE),
    _Family(
        "Instructor",
        r"(^|/)instructor-(base|large|xl)",
        Prompts(
            "Represent the question for retrieving supporting documents: ", "Represent the document for retrieval: "
        ),
    ),
)


def dimensions(reference: str) -> int | None:
    """Returns the dimensions of an encoder's vectors, or None if it is not in the catalog.

    ``hashed:N`` is the deterministic encoder with N dimensions, which needs no weights.
    """
    if match := _HASHED.fullmatch(reference):
        return int(match[1])
    return DIMENSIONS.get(_name(reference))


def prompts(reference: str) -> Prompts:
    """Returns the prompts of an encoder in the catalog, and no prompts for any other, whatever its name."""
    family = _family(reference) if _name(reference) in DIMENSIONS else None
    return family.prompts if family else NO_PROMPTS


@dataclass(frozen=True, slots=True)
class Lacking:
    """Prompts missing from an encoder whose name suggests a family that expects them."""

    reference: str
    family: str
    prompts: Prompts  # the missing ones
    may_be_in_files: bool

    @property
    def options(self) -> str:
        """The command-line options that declare the missing prompts."""
        return " ".join(f"--{name.replace('_', '-')} {shlex.quote(prompt)}" for name, prompt in self._named())

    @property
    def advice(self) -> str:
        """A message that says which prompts are missing and how to declare them."""
        missing = " and ".join(f"{name}={prompt!r}" for name, prompt in self._named())
        return (
            f"Encoder {self.reference!r} looks like {self.family}, which expects prompts"
            f"{', unless its own files define them' if self.may_be_in_files else ''}. Declare {missing}, or "
            "an empty string for no prompt."
        )

    def _named(self) -> list[tuple[str, str]]:
        named = (("query_prompt", self.prompts.query), ("document_prompt", self.prompts.document))
        return [(name, prompt) for name, prompt in named if prompt]


def lacking(reference: str, *, declared: Prompts, loaded: Prompts | None = None) -> Lacking | None:
    """Returns the prompts that an encoder seems to lack, judging by its name, or None if it lacks nothing.

    Args:
        reference: The encoder's reference.
        declared: The declared prompts. A declared prompt is never reported as missing, even if it is empty.
        loaded: The prompts that the loaded encoder uses. With None, for an encoder not yet loaded, encoders in the
            catalog and families with prompts in their own files are assumed to be complete.
    """
    family = _family(reference)
    if family is None or (loaded is None and (family.are_in_files or _name(reference) in DIMENSIONS)):
        return None
    found = declared.filled(loaded or NO_PROMPTS)
    missing = Prompts(
        family.prompts.query if declared.query is None and not found.query else None,
        family.prompts.document if declared.document is None and not found.document else None,
    )
    if not missing.query and not missing.document:
        return None
    return Lacking(reference, family.name, missing, may_be_in_files=loaded is None)


def _name(reference: str) -> str:
    """Returns a reference without its revision."""
    return reference.partition("@")[0]


def _family(reference: str) -> _Family | None:
    name = _name(reference).casefold()
    return next((family for family in _FAMILIES if re.search(family.pattern, name)), None)
