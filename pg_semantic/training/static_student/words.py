"""The words of a student: how texts are divided into them, which ones it knows, and the tokenizer that finds them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import BertNormalizer

UNKNOWN = "[UNK]"
CONTINUES = "##"
"""The beginning of a piece that continues a word."""

_WORD = re.compile(r"[^\W_]+")
_LONGEST = 40  # characters; a longer word is an identifier or a key
_STARTS = ("▁", "Ġ")  # what other tokenizers put before a piece that begins a word


def normalizer(teacher: "Tokenizer") -> "BertNormalizer":
    """Returns how a student normalizes texts: like the teacher, if it ignores case as BERT does."""
    from tokenizers.normalizers import BertNormalizer

    own = teacher.normalizer
    if isinstance(own, BertNormalizer) and own.lowercase:
        return own
    return BertNormalizer(lowercase=True, strip_accents=False)


def frequent(rows: Iterable[Sequence[str]], normalize: "BertNormalizer", *, least_rows: int, most: int) -> list[str]:
    """Returns the words that occur in many rows, most frequent first.

    Args:
        rows: The texts of each row.
        normalize: What `normalizer` returned.
        least_rows: In how many different rows a word must occur. Others are never returned.
        most: How many words to return at most.
    """
    counts: Counter[str] = Counter()
    for texts in rows:
        counts.update({word for text in texts for word in _WORD.findall(normalize.normalize_str(text))})
    known = [word for word, count in counts.items() if count >= least_rows and len(word) <= _LONGEST]
    return sorted(known, key=lambda word: (-counts[word], word))[:most]


def pieces(teacher: "Tokenizer", normalize: "BertNormalizer") -> list[str]:
    """Returns the pieces of words in a tokenizer's vocabulary, as WordPiece writes them, in the order of their ids.

    Leaves out special tokens, and pieces that a student would divide further.
    """
    special = {token.content for token in teacher.get_added_tokens_decoder().values()}
    known = sorted(teacher.get_vocab().items(), key=lambda item: item[1])
    read = _reader(teacher)
    found = (read(token) for token, _ in known if token not in special)
    return list(dict.fromkeys(one for piece in found for one in _normalized(piece, normalize)))


def _reader(teacher: "Tokenizer") -> Any:
    """Returns a function from a token to the piece, which begins with `CONTINUES` unless it begins a word."""
    from tokenizers import models

    model, decode = teacher.model, getattr(teacher.decoder, "decode", "".join)
    if isinstance(model, models.WordPiece):
        prefix = model.continuing_subword_prefix
        return lambda token: CONTINUES + token.removeprefix(prefix) if token.startswith(prefix) else token
    if isinstance(model, models.WordLevel):
        return lambda token: token

    def read(token: str) -> str:
        text = decode([token]).strip().lstrip("".join(_STARTS))
        return text if token.startswith(_STARTS) else CONTINUES + text

    return read


def _normalized(piece: str, normalize: "BertNormalizer") -> Iterator[str]:
    from tokenizers.pre_tokenizers import BertPreTokenizer

    prefix = CONTINUES if piece.startswith(CONTINUES) and piece != CONTINUES else ""
    text = normalize.normalize_str(piece.removeprefix(prefix))
    if text and "\ufffd" not in text and len(BertPreTokenizer().pre_tokenize_str(text)) == 1 and text == text.strip():
        yield prefix + text


def tokenizer(vocabulary: Sequence[str], normalize: "BertNormalizer", *, most_tokens: int | None) -> "Tokenizer":
    """Returns the tokenizer of a student: words as they are if it knows them, otherwise the longest known pieces.

    Args:
        vocabulary: The words and pieces by their ids; the first one must be `UNKNOWN`.
        normalize: What `normalizer` returned.
        most_tokens: After how many tokens a text is truncated; None for no limit.
    """
    from tokenizers import Tokenizer, models
    from tokenizers.pre_tokenizers import BertPreTokenizer

    ids = {token: number for number, token in enumerate(vocabulary)}
    made = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN, continuing_subword_prefix=CONTINUES))
    made.normalizer = normalize
    made.pre_tokenizer = BertPreTokenizer()
    if most_tokens is not None:
        made.enable_truncation(most_tokens)
    return made


def text_of(token: str) -> str:
    """Returns the text of a word or piece, for the teacher to encode."""
    return token.removeprefix(CONTINUES) or token
