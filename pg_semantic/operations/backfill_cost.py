"""What it takes to encode rows on a remote encoder: requests, tokens, and money where a price is given."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from pg_semantic import sql
from pg_semantic.encoders.remote.token_counter import TokenizerTokenCounter
from pg_semantic.index import chunk_tables
from pg_semantic.index.spec import IndexSpec
from pg_semantic.registry import Generation
from pg_semantic.settings import Endpoint
from pg_semantic.worker import build_forecast

SAMPLE = 1_000
_CHARACTERS_PER_TOKEN = 4  # of English prose; other scripts have more tokens

CountedBy = Literal["tokenizer", "characters"]


@dataclass(frozen=True, slots=True)
class BackfillCost:
    """An estimate of what is sent to a remote encoder until all rows are encoded.

    Attributes:
        rows: Rows that aren't encoded yet.
        sampled: How many texts the estimate is based on.
        counted_by: ``tokenizer`` if the encoder's own tokenizer counted their tokens; ``characters`` if a token was
            taken for every four of them, because no tokenizer is set.
        requests: How many requests are sent.
        tokens: How many tokens they have, prompts included.
        dollars: What they cost; None without a price.
    """

    rows: int
    sampled: int
    counted_by: CountedBy
    requests: int
    tokens: int
    dollars: float | None


def estimate(
    connection: sa.Connection,
    generation: Generation,
    endpoint: Endpoint,
    *,
    rows: int | None = None,
    batch: int = 32,
    dollars_per_million_tokens: float | None = None,
) -> BackfillCost:
    """Estimates what the backfill of a generation takes, from a sample of its rows. Sends nothing.

    Args:
        connection: A connection of a role that can read the table.
        generation: The generation.
        endpoint: Where its encoder is served.
        rows: How many rows the table will have; None for those that it has.
        batch: How many texts are sent in one request.
        dollars_per_million_tokens: The price.
    """
    known = connection.execute(sql.statement("vector_index", "counts"), {"generation": generation.id}).one()
    present = build_forecast.known_or_counted(connection, known.rows, generation.tables.source)
    encoded = build_forecast.known_or_counted(connection, known.receipts, generation.tables.receipts)
    left = max(0, (present if rows is None else rows) - encoded)
    texts = _sample(connection, generation, present)
    counted_by, count = _counter(generation.spec, endpoint)
    tokens, chunks = _sent(count(texts), generation.spec, endpoint)
    scale = left / len(texts) if texts else 0.0
    total = math.ceil(tokens * scale)
    return BackfillCost(
        rows=left,
        sampled=len(texts),
        counted_by=counted_by,
        requests=math.ceil(chunks * scale / batch),
        tokens=total,
        dollars=None if dollars_per_million_tokens is None else total * dollars_per_million_tokens / 1e6,
    )


def _sample(connection: sa.Connection, generation: Generation, rows: int) -> list[str]:
    """Returns texts of rows from random blocks of the table, without those of blank rows."""
    source = generation.tables.source
    share = min(100.0, 100 * 2 * SAMPLE / max(1, rows))
    drawn = source.tablesample(sa.func.system(share)) if share < 100 else source  # noqa: PLR2004 - percent
    text = chunk_tables.text_of(generation.spec, drawn)
    return [one for one in connection.scalars(sa.select(text).select_from(drawn).limit(SAMPLE)) if one]


def _counter(spec: IndexSpec, endpoint: Endpoint) -> tuple[CountedBy, Callable[[Sequence[str]], list[int]]]:
    prompt = endpoint.document_prompt if endpoint.document_prompt is not None else spec.encoder.document_prompt or ""
    if endpoint.tokenizer is not None:
        return "tokenizer", TokenizerTokenCounter.load(endpoint.tokenizer, prompt=prompt).count_tokens
    return "characters", lambda texts: [-(-(len(prompt) + len(text)) // _CHARACTERS_PER_TOKEN) for text in texts]


def _sent(counts: Sequence[int], spec: IndexSpec, endpoint: Endpoint) -> tuple[int, int]:
    """Returns how many tokens of these texts are sent, in how many chunks."""
    if spec.chunking is None:
        return sum(min(count, endpoint.max_tokens) for count in counts), len(counts)
    longest = min(spec.chunking.max_tokens or endpoint.max_tokens, endpoint.max_tokens)
    overlap = spec.chunking.overlap_tokens
    chunks = [max(1, math.ceil((count - overlap) / (longest - overlap))) for count in counts]
    return sum(counts) + overlap * (sum(chunks) - len(chunks)), sum(chunks)
