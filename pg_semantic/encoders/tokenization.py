"""Counts and tokenizes texts once, then pads them batch by batch.

If possible, texts go directly to the fast tokenizer, which is several times as fast as an encoder's full preprocessing.
That requires that both give the same tensors on the self-check. Otherwise the encoder's own preprocessing is used.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders import routes, self_check, word_tokens
from pg_semantic.encoders.word_tokens import WordTokens

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

NO_LIMIT = 1_000_000_000
TASKS = ("document", "query")
PROMPT_NAMES = {"document": ("document", "passage", "corpus"), "query": ("query",)}
_MOST_REMEMBERED = 4_000_000  # tokens; four bytes each
_LONGEST_TRIED = 8192  # tokens; a longer text would take seconds
_ENTRY = 64  # memory overhead of a cached text, expressed in tokens
_TENSORS = {"input_ids", "attention_mask", "token_type_ids"}
_FLAT_TENSORS = {"input_ids", "offsets"}  # of `StaticEmbedding`, which pads nothing

Ids = NDArray[np.int32]


class Tokenized(Protocol):
    """Tokenized texts, ready to be batched."""

    @property
    def counts(self) -> Sequence[int]:
        """The number of tokens of each text. Estimates are enough, as long as they sort texts by length."""
        ...

    def features(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Returns the encoder's input for some of the texts, padded to the longest of them.

        Args:
            numbers: Positions of the texts.

        Returns:
            Tensors by name, as sentence-transformers takes them.
        """
        ...


class Tokens:
    """Tokenizes an encoder's documents or its queries. Thread-safe.

    Args:
        transformer: The encoder.
        task: ``document`` or ``query``.
        other: The tokens of the other task; if both have the same tokenizer, they share one copy.
    """

    def __init__(self, transformer: "SentenceTransformer", task: str, *, other: "Tokens | None" = None) -> None:
        tokenizer = _input_module(transformer, task).tokenizer
        self.limit = limit(transformer, task)
        self.prompt = prompt(transformer, task)
        is_same = other and other.copies.of is tokenizer and other.limit == self.limit
        self.copies: _Copies = other.copies if other and is_same else _Copies(tokenizer, self.limit)
        self._transformer = transformer
        self._task = task
        self._padding = _Padding(tokenizer)
        self._is_exact = self._agrees()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Counts the tokens of each text, including special tokens and prompt. A count can exceed ``limit``."""
        prompted = [self.prompt + text for text in texts]
        known = self.copies.remembered.counts(prompted)
        unknown = [text for text in dict.fromkeys(prompted) if text not in known]
        for text, ids in zip(unknown, self.copies.count(unknown), strict=True):
            known[text] = len(ids)
            if self._is_exact and len(ids) <= self.limit:
                self.copies.remembered.put(text, ids)
        return [known[text] for text in prompted]

    def remember(self, text: str, ids: Ids) -> None:
        """Caches token ids.

        Args:
            text: A text that will soon be counted and read.
            ids: Its token ids, including special tokens.
        """
        if self._is_exact and not self.prompt and len(ids) <= self.limit:
            self.copies.remembered.put(text, ids)

    def read(self, texts: Sequence[str]) -> Tokenized:
        """Tokenizes texts and truncates them at the encoder's limit. Reuses the tokens of texts just counted."""
        if not self._is_exact:
            return Unread(self._transformer, texts, prompt=self.prompt, task=self._task)
        prompted = [self.prompt + text for text in texts]
        known = [self.copies.remembered.pop(text) for text in prompted]
        unknown = [text for text, ids in zip(prompted, known, strict=True) if ids is None]
        fresh = iter(self.copies.truncate(unknown))
        return _Read([next(fresh) if ids is None else ids for ids in known], self._padding, extras=self._extras)

    def _agrees(self) -> bool:
        """Returns whether the fast tokenizer gives the same tensors as the encoder's own preprocessing."""
        texts = [*self_check.TEXTS, " ".join(getattr(self._padding.of, "all_special_tokens", []))]
        if self.limit <= _LONGEST_TRIED:
            texts.append("one more than it reads " * self.limit)
        theirs = self._transformer.preprocess(texts, prompt=self.prompt or None, task=self._task)
        tensors = {name: value for name, value in theirs.items() if hasattr(value, "shape")}
        self._extras = {name: value for name, value in theirs.items() if name not in tensors}
        self._padding.is_flat = tensors.keys() == _FLAT_TENSORS
        if not self._padding.is_flat and not {"input_ids", "attention_mask"} <= tensors.keys() <= _TENSORS:
            return False
        self._padding.has_types = "token_type_ids" in tensors
        ids = self.copies.truncate([self.prompt + text for text in texts])
        ours = _Read(ids, self._padding, extras={}).features(range(len(texts)))
        return all(tensors[name].equal(ours[name]) for name in tensors)


class _Copies:
    """Two copies of a tokenizer, one that counts and one that truncates, and a cache of token ids by prompted text."""

    def __init__(self, tokenizer: Any, limit: int) -> None:
        self.of = tokenizer
        self.counting = _copy(tokenizer)
        self._limit = limit
        self._truncating = _copy(tokenizer)
        if limit < NO_LIMIT:
            self._truncating.enable_truncation(limit)
        self._words = WordTokens(self.counting) if _has_words(tokenizer) else None
        self.remembered = _Remembered()

    def count(self, texts: Sequence[str]) -> list[Ids]:
        """Returns the token ids of each text, including special tokens, however long it is."""
        if self._words:
            return self._words.encode(texts)
        return [_ids(encoding) for encoding in self.counting.encode_batch_fast(texts)]

    def truncate(self, texts: Sequence[str]) -> list[Ids]:
        """Returns the same, truncated at the limit."""
        if self._words:
            return [ids[: self._limit] for ids in self._words.encode(texts)]
        return [_ids(encoding) for encoding in self._truncating.encode_batch_fast(texts)]


class Unread:
    """Texts for an encoder's own preprocessing. Their counts are estimated from characters, which is enough to sort by.

    Args:
        transformer: The encoder.
        texts: Texts without the prompt.
        prompt: The prompt to put before each text.
        task: ``document`` or ``query``.
    """

    def __init__(self, transformer: "SentenceTransformer", texts: Sequence[str], *, prompt: str, task: str) -> None:
        self._transformer = transformer
        self._texts = texts
        self._how = {"prompt": prompt or None, "task": task}
        self.counts = [1 + len(prompt + text) // 4 for text in texts]

    def features(self, numbers: Sequence[int]) -> dict[str, Any]:
        """See `Tokenized.features`."""
        features: dict[str, Any] = self._transformer.preprocess([self._texts[n] for n in numbers], **self._how)
        return features


class _Padding:
    """How a tokenizer pads."""

    def __init__(self, tokenizer: Any) -> None:
        self.of = tokenizer
        self.token = int(getattr(tokenizer, "pad_token_id", None) or 0)
        self.left = getattr(tokenizer, "padding_side", None) == "left"
        self.has_types = False
        self.is_flat = False


class _Read:
    """Token ids that `features` pads."""

    def __init__(self, ids: Sequence[Ids], padding: _Padding, *, extras: dict[str, Any]) -> None:
        self._ids = ids
        self._padding = padding
        self._extras = extras
        self.counts = [len(one) for one in ids]

    def features(self, numbers: Sequence[int]) -> dict[str, Any]:
        """See `Tokenized.features`."""
        import torch

        if self._padding.is_flat:
            return self._flat(numbers) | self._extras
        width = max(self.counts[number] for number in numbers)
        ids = np.full((len(numbers), width), self._padding.token, np.int64)
        mask = np.zeros_like(ids)
        for row, number in enumerate(numbers):
            count = self.counts[number]
            place = slice(width - count, width) if self._padding.left else slice(0, count)
            ids[row, place], mask[row, place] = self._ids[number], 1
        arrays = {"input_ids": ids, "attention_mask": mask}
        if self._padding.has_types:
            arrays["token_type_ids"] = np.zeros_like(ids)
        return {name: torch.from_numpy(array) for name, array in arrays.items()} | self._extras

    def _flat(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Returns the token ids one text after the other, and where each text begins."""
        import torch

        ids = np.concatenate([self._ids[number] for number in numbers]).astype(np.int64)
        starts = np.cumsum([0, *(self.counts[number] for number in numbers[:-1])])
        return {"input_ids": torch.from_numpy(ids), "offsets": torch.from_numpy(starts)}


class _Remembered:
    """A cache for the token ids of texts that were counted and will soon be encoded; drops the oldest."""

    def __init__(self) -> None:
        self._ids: dict[str, Ids] = {}
        self._total = 0
        self._lock = threading.Lock()

    def put(self, text: str, ids: Ids) -> None:
        """Adds the token ids of a text."""
        with self._lock:
            self._drop(text)
            self._ids[text] = ids
            self._total += len(ids) + _ENTRY
            while self._total > _MOST_REMEMBERED:
                self._drop(next(iter(self._ids)))

    def counts(self, texts: Sequence[str]) -> dict[str, int]:
        """Returns the token counts of those texts that are cached."""
        with self._lock:
            return {text: len(self._ids[text]) for text in texts if text in self._ids}

    def pop(self, text: str) -> Ids | None:
        """Removes and returns the token ids of a text, or None if it isn't cached."""
        with self._lock:
            return self._drop(text)

    def _drop(self, text: str) -> Ids | None:
        ids = self._ids.pop(text, None)
        self._total -= 0 if ids is None else len(ids) + _ENTRY
        return ids


def prompt(transformer: "SentenceTransformer", task: str) -> str:
    """Returns the prompt that sentence-transformers uses: the first of the task's names, else the default prompt."""
    known = (name for name in (*PROMPT_NAMES[task], transformer.default_prompt_name) if name in transformer.prompts)
    return transformer.prompts.get(next(known, None)) or ""


def limit(transformer: "SentenceTransformer", task: str) -> int:
    """Returns the maximum length of a text in tokens, or `NO_LIMIT`.

    `StaticEmbedding` has no limit of its own, but its tokenizer can have one.
    """
    module = _input_module(transformer, task)
    truncation = module.tokenizer.truncation if _is_bare(module.tokenizer) else None
    longest = truncation["max_length"] if truncation else getattr(module, "max_seq_length", None)
    return int(min(longest or NO_LIMIT, NO_LIMIT))


def fast_tokenizer(transformer: "SentenceTransformer", task: str) -> "Tokenizer":
    """Returns a copy of the tokenizer of a task, which neither truncates nor pads."""
    return _copy(_input_module(transformer, task).tokenizer)


def vocabulary(transformer: "SentenceTransformer", task: str) -> str:
    """Returns the hexadecimal SHA-256 of the tokens and their ids."""
    known = fast_tokenizer(transformer, task).get_vocab()
    return hashlib.sha256(json.dumps(sorted(known.items())).encode()).hexdigest()


def rules(transformer: "SentenceTransformer", task: str) -> str:
    """Returns the hexadecimal SHA-256 of the rules by which a tokenizer splits a text, without its vocabulary.

    Neither the vocabulary nor the ids of some texts determine them.
    """
    tokenizer = _input_module(transformer, task).tokenizer
    known = json.loads(_copy(tokenizer).to_str())
    del known["version"]  # of the format
    known["model"].pop("vocab", None)
    known["split_special_tokens"] = bool(getattr(tokenizer, "split_special_tokens", False))
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def truncation_side(transformer: "SentenceTransformer", task: str) -> str:
    """Returns at which end a text that is too long loses tokens: ``right`` for almost all encoders, or ``left``."""
    tokenizer = _input_module(transformer, task).tokenizer
    if _is_bare(tokenizer):
        return str((tokenizer.truncation or {}).get("direction", "right"))
    return str(getattr(tokenizer, "truncation_side", "right"))


def sample(transformer: "SentenceTransformer", task: str) -> str:
    """Returns the hexadecimal SHA-256 of the token ids of the self-check's texts.

    The vocabulary alone doesn't determine how a tokenizer splits a text.
    """
    read = Unread(transformer, self_check.TEXTS, prompt=prompt(transformer, task), task=task)
    ids = read.features(range(len(self_check.TEXTS)))["input_ids"]
    return hashlib.sha256(json.dumps(ids.tolist()).encode()).hexdigest()


def _input_module(transformer: "SentenceTransformer", task: str) -> Any:
    """Returns the module that reads the texts of a task."""
    return routes.modules(transformer, task)[0]


def _ids(encoding: Any) -> Ids:
    return np.array(encoding.ids, np.int32)


def _copy(tokenizer: Any) -> "Tokenizer":
    """Returns a copy of the fast tokenizer that neither truncates nor pads."""
    backend = tokenizer if _is_bare(tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise errors.EncoderError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, which chunking needs: put tokenizer.json next to the "
            "weights."
        )
    copy: Tokenizer = type(backend).from_str(backend.to_str())
    copy.encode_special_tokens = bool(getattr(tokenizer, "split_special_tokens", False))
    copy.no_truncation()
    copy.no_padding()
    if _is_bare(tokenizer):
        copy.post_processor = None  # which would add special tokens
    return copy


def _has_words(tokenizer: object) -> bool:
    """Returns whether a tokenizer belongs to a table of word vectors, and can be asked word by word."""
    return _is_bare(tokenizer) and word_tokens.is_local(_copy(tokenizer))


def _is_bare(tokenizer: object) -> bool:
    """Returns whether this is a `tokenizers.Tokenizer`, as in `StaticEmbedding`, which reads no special tokens."""
    import tokenizers

    return isinstance(tokenizer, tokenizers.Tokenizer)
