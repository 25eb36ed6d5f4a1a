"""`Student`: a table of word vectors with its tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pg_semantic.encoders.base import Vectors
from pg_semantic.training.static_student import bags, first_table
from pg_semantic.training.static_student.bags import Bags

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Student:
    """A table of word vectors with its tokenizer.

    Attributes:
        tokenizer: Divides a text into words.
        table: The vector of each word, by its id, shape (vocabulary, dimensions).
    """

    tokenizer: "Tokenizer"
    table: Vectors

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Returns the vectors of texts, of unit length, shape (texts, dimensions)."""
        return vectors(self.table, bags.of(self.tokenizer, texts))

    def transformer(self) -> "SentenceTransformer":
        """Returns the student as sentence-transformers loads and saves it."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Normalize
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        table = StaticEmbedding(self.tokenizer, embedding_weights=self.table)
        return SentenceTransformer(modules=[table, Normalize()], device="cpu", similarity_fn_name="cosine").eval()


def vectors(table: Vectors, texts: Bags) -> Vectors:
    """Returns the mean over the words of each text, scaled to unit length, shape (texts, dimensions)."""
    import torch

    ids, starts = torch.from_numpy(texts.ids), torch.from_numpy(texts.starts[:-1])
    made: Vectors = torch.nn.functional.embedding_bag(ids, torch.from_numpy(table), starts, mode="mean").numpy()
    return first_table.unit(made)
