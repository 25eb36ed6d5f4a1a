"""Everything an operator may change: one typed object, read from the environment here and nowhere else."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pydantic_settings
from pydantic import Field

from pg_semantic import errors

_FIELD = re.compile(r'field "(\w+)"')
_ISA_WITH_BFLOAT16 = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10")
_KNOWN_MAX_TOKENS = 512  # what BERT and most encoders made of it read; servers seldom say


class Endpoint(pydantic.BaseModel):
    """Where a remote encoder is served, and what is known of it here."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    """Base of the API, as ``http://host:8080/v1``."""
    model: str | None = Field(default=None, min_length=1)
    """The name that the server knows the encoder by; by default the reference."""
    query_prompt: str | None = None
    """Put before each query here; an empty text if the server does it, None for the index's or the catalog's."""
    document_prompt: str | None = None
    max_tokens: int = Field(default=_KNOWN_MAX_TOKENS, ge=8)
    """The longest text that the server reads whole, special tokens and prompt included."""
    tokenizer: str | None = None
    """A folder, a ``tokenizer.json`` or a hub name, to count tokens by; without one they are estimated."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _of_a_url(cls, given: object) -> object:
        return {"url": given} if isinstance(given, str) else given

    @pydantic.field_validator("url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        parts = pydantic.HttpUrl(url)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("give a URL without user, password, query or fragment; the key is a setting of its own")
        return url.rstrip("/").removesuffix("/embeddings").rstrip("/")  # some give the address that is asked


class PromptPair(pydantic.BaseModel):
    """What is put before the texts of an encoder; None leaves it to the encoder, an empty text is no prompt."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    query: str | None = None
    document: str | None = None


class Settings(pydantic_settings.BaseSettings):
    """Settings of the worker and the command line; each is an environment variable ``PG_SEMANTIC_...``."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix="PG_SEMANTIC_", frozen=True, hide_input_in_errors=True
    )

    dsn: Annotated[
        pydantic.SecretStr | None,
        Field(description="The database: postgresql://user@host/name, or embedded:PATH for an embedded server."),
    ] = None
    encoder_paths: Annotated[
        dict[str, str],
        Field(description='Where encoders are on this machine, as JSON: {"org/name": "/folder"}.'),
    ] = {}
    encoder_urls: Annotated[
        dict[str, Endpoint],
        Field(description='Encoders that a server runs, as JSON: {"org/name": "http://host/v1"}.'),
    ] = {}
    encoder_prompts: Annotated[
        dict[str, PromptPair],
        Field(
            description="Prompts of encoders whose index declares none, as JSON: "
            '{"org/name": {"query": "query: ", "document": "passage: "}}.'
        ),
    ] = {}
    remote_api_key: Annotated[
        pydantic.SecretStr | None, Field(description="The key that is sent to the servers of encoder_urls.")
    ] = None
    remote_batch: Annotated[int, Field(ge=1, le=2048, description="Texts in one request to a remote encoder.")] = 32
    remote_concurrency: Annotated[
        int, Field(ge=1, le=256, description="Requests to one remote encoder at once, of one process.")
    ] = 4
    remote_timeout_seconds: Annotated[
        float, Field(gt=0, description="How long a remote encoder is given to answer a request, in seconds.")
    ] = 60.0
    remote_retries: Annotated[
        int, Field(ge=0, le=100, description="How often a request to a remote encoder is tried again, with back-off.")
    ] = 5
    device: Annotated[
        str | None,
        Field(description="Torch device of the encoder (cpu, cuda:1, mps); the fastest at hand when not set."),
    ] = None
    backend: Annotated[
        Literal["auto", "torch", "openvino"],
        Field(description="What computes the encoder: torch, openvino, or the fastest that passes the self-check."),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Field(description="Arithmetic of the encoder; auto is 16 bits where the hardware has them."),
    ] = "auto"
    token_budget: Annotated[
        int | None,
        Field(
            ge=1, description="Tokens that the encoder reads at once, padding included; tuned by a probe when not set."
        ),
    ] = None
    cache_folder: Annotated[
        Path | None,
        Field(description="Where converted encoders are kept; the user's cache folder when not set."),
    ] = None
    batch_rows: Annotated[int, Field(ge=1, le=10_000, description="Rows that a worker claims at once, at most.")] = 2000
    batch_bytes: Annotated[
        int,
        Field(ge=1, description="Bytes of text that a worker reads at once, at most; a longer row is read by itself."),
    ] = 4_194_304
    batch_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="About how long a batch is encoded, in seconds; edits are let pass.",
        ),
    ] = 8.0
    write_chunks: Annotated[
        int, Field(ge=1, description="Chunks per write transaction: so long can a DELETE of one of their rows wait.")
    ] = 128
    poll_seconds: Annotated[
        float,
        Field(
            gt=0, description="How often a worker looks for jobs, in seconds; ten times as long after ten quiet ones."
        ),
    ] = 0.005
    lease_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="How long a claim is good without a heartbeat, in seconds; heartbeats go at a third.",
        ),
    ] = 60.0
    drain_seconds: Annotated[
        float,
        Field(ge=0, description="How long a worker that is told to stop may finish what is in hand, in seconds."),
    ] = 30.0
    max_attempts: Annotated[
        int, Field(ge=1, le=10_000, description="Failures after which a job is parked as failed.")
    ] = 5
    retry_seconds: Annotated[
        float,
        Field(gt=0, description="Wait before the second attempt, in seconds; doubles each time, with jitter."),
    ] = 1.0
    log_format: Annotated[
        Literal["text", "json"],
        Field(description="How the worker logs: lines for a person, or one JSON object a line."),
    ] = "text"
    statistics_drift: Annotated[
        float, Field(gt=0, description="Share of rows that change before the statistics of BM25 are counted anew.")
    ] = 0.1
    statistics_seconds: Annotated[
        float, Field(gt=0, description="Age at which they are counted anew if any row changed, in seconds.")
    ] = 3600.0
    query_cache: Annotated[
        int, Field(ge=0, description="Vectors of queries in plain SQL that are kept in the database, the newest.")
    ] = 10_000
    vector_index_backlog: Annotated[
        int, Field(ge=0, description="The HNSW index is built once at most this many jobs are waiting.")
    ] = 100
    service_api_key: Annotated[
        pydantic.SecretStr | None,
        Field(description="The key that callers of the service send; without one it answers to this machine alone."),
    ] = None
    service_requests: Annotated[
        int, Field(ge=1, description="Requests that the service answers at once; one more is told to try again.")
    ] = 256
    service_waiting_texts: Annotated[
        int, Field(ge=1, description="Texts that wait for one encoder of the service; with one more, try again.")
    ] = 4096
    service_batch_tokens: Annotated[
        int, Field(ge=1, description="Tokens of several requests that the service has encoded at once.")
    ] = 4096
    service_request_texts: Annotated[int, Field(ge=1, description="Texts in one request to the service.")] = 2048
    service_text_characters: Annotated[
        int, Field(ge=1, description="Characters of a text in a request to the service.")
    ] = 100_000
    service_body_bytes: Annotated[
        int, Field(ge=1024, description="Bytes of a request to the service; of all at once, 16 times as many.")
    ] = 4_194_304
    service_statement_seconds: Annotated[
        float, Field(gt=0, description="How long a statement of a search of the service may take, in seconds.")
    ] = 30.0
    service_status_seconds: Annotated[
        float, Field(ge=0, description="How long the service's figures of semantic indexes are kept, in seconds.")
    ] = 10.0


def load(**overrides: object) -> Settings:
    """The settings from the environment, with overrides that are not None on top.

    Raises `errors.SettingsError` naming the setting that can not be read.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except (pydantic.ValidationError, pydantic_settings.SettingsError) as error:
        raise errors.SettingsError(_explain(error)) from error


def allows_bfloat16() -> bool:
    """Whether ONEDNN_MAX_CPU_ISA leaves the CPU its bfloat16 instructions; OpenVINO and torch obey it unasked."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return limit in {"", "ALL", "DEFAULT"} or limit.startswith(_ISA_WITH_BFLOAT16)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"PG_SEMANTIC_{name.upper()}"


def _explain(error: Exception) -> str:
    if not isinstance(error, pydantic.ValidationError):
        field = _FIELD.search(str(error))
        name = variable(field[1]) if field else "unknown"
        return f"Setting {name} can not be read: it is not JSON. See `pg-semantic settings`."
    first = error.errors(include_url=False, include_input=False)[0]
    name = variable(".".join(str(part) for part in first["loc"][:1]))
    return f"Setting {name} is wrong: {first['msg']}. See `pg-semantic settings`."
