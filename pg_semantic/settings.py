"""All settings as one typed object. Only this module reads them from the environment."""

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
_KNOWN_MAX_TOKENS = 512  # the limit of BERT and most encoders based on it; servers rarely report theirs


class Endpoint(pydantic.BaseModel):
    """Where a remote encoder is served, and what you know about it."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    """Base URL of the API, such as ``http://host:8080/v1``."""
    model: str | None = Field(default=None, min_length=1)
    """The name of the encoder on the server; by default the encoder reference."""
    query_prompt: str | None = None
    """Prompt before each query: empty if the server adds it, None for the prompt of the index or the catalog."""
    document_prompt: str | None = None
    max_tokens: int = Field(default=_KNOWN_MAX_TOKENS, ge=8)
    """The longest text that the server reads in full, in tokens, including special tokens and prompt."""
    tokenizer: str | None = None
    """Folder, ``tokenizer.json`` or hub name of the tokenizer that counts tokens; without one, they are estimated."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _of_a_url(cls, given: object) -> object:
        return {"url": given} if isinstance(given, str) else given

    @pydantic.field_validator("url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        parts = pydantic.HttpUrl(url)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "use a URL without user, password, query or fragment; the API key has a setting of its own"
            )
        return url.rstrip("/").removesuffix("/embeddings").rstrip("/")  # people often pass the full URL


class PromptPair(pydantic.BaseModel):
    """Prompts for an encoder: None uses the encoder's own, an empty string means no prompt."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    query: str | None = None
    document: str | None = None


class Settings(pydantic_settings.BaseSettings):
    """Settings of the command line, the worker and the service, read from variables named ``PG_SEMANTIC_...``."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix="PG_SEMANTIC_", frozen=True, hide_input_in_errors=True
    )

    dsn: Annotated[
        pydantic.SecretStr | None,
        Field(description="The database: postgresql://user@host/name, or embedded:PATH for an embedded server."),
    ] = None
    encoder_paths: Annotated[
        dict[str, str],
        Field(description='Folders with the weights of encoders, as JSON: {"org/name": "/folder"}.'),
    ] = {}
    encoder_urls: Annotated[
        dict[str, Endpoint],
        Field(description='Encoders that run on a server, as JSON: {"org/name": "http://host/v1"}.'),
    ] = {}
    encoder_prompts: Annotated[
        dict[str, PromptPair],
        Field(
            description="Prompts of encoders whose index declares none, as JSON: "
            '{"org/name": {"query": "query: ", "document": "passage: "}}.'
        ),
    ] = {}
    remote_api_key: Annotated[
        pydantic.SecretStr | None, Field(description="API key for the servers in PG_SEMANTIC_ENCODER_URLS.")
    ] = None
    remote_batch: Annotated[
        int, Field(ge=1, le=2048, description="Maximum number of texts in one request to a remote encoder.")
    ] = 32
    remote_concurrency: Annotated[
        int,
        Field(
            ge=1, le=256, description="Maximum number of concurrent requests from one process to one remote encoder."
        ),
    ] = 4
    remote_timeout_seconds: Annotated[
        float, Field(gt=0, description="Timeout of a request to a remote encoder, in seconds.")
    ] = 60.0
    remote_retries: Annotated[
        int,
        Field(ge=0, le=100, description="How many times to retry a failed request to a remote encoder, with back-off."),
    ] = 5
    device: Annotated[
        str | None,
        Field(description="Torch device for the encoder (cpu, cuda:1, mps); by default the fastest one available."),
    ] = None
    backend: Annotated[
        Literal["auto", "torch", "openvino"],
        Field(
            description="What computes the vectors: torch, openvino, or (auto) the fastest that passes the self-check."
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Field(description="Arithmetic of the encoder; auto is 16 bits if the hardware supports it."),
    ] = "auto"
    token_budget: Annotated[
        int | None,
        Field(
            ge=1, description="Tokens that the encoder reads at once, including padding; by default a probe decides."
        ),
    ] = None
    cache_folder: Annotated[
        Path | None,
        Field(description="Where to keep converted encoders; by default the user's cache folder."),
    ] = None
    batch_rows: Annotated[
        int, Field(ge=1, le=10_000, description="Maximum number of rows that a worker claims at once.")
    ] = 2000
    batch_bytes: Annotated[
        int,
        Field(ge=1, description="Maximum bytes of text that a worker reads at once; a longer row is read on its own."),
    ] = 4_194_304
    batch_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Target time for encoding one batch, in seconds; edits don't wait for it.",
        ),
    ] = 8.0
    write_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Target time for one transaction that writes, in seconds; a DELETE of its rows can wait that "
            "long, or twice as long where writes have just become slower.",
        ),
    ] = 0.05
    write_connections: Annotated[
        int, Field(ge=1, le=4, description="Number of connections on which a worker writes a batch at the same time.")
    ] = 2
    max_wal_mb_s: Annotated[
        float | None,
        Field(
            gt=0,
            description="Pause backfill while the server writes more WAL than this on average, in MB per second. Edits "
            "continue, and their WAL counts too.",
        ),
    ] = None
    max_replay_lag_seconds: Annotated[
        float | None,
        Field(gt=0, description="Pause backfill while a standby replays WAL later than this, in seconds."),
    ] = None
    max_slot_wal_mb: Annotated[
        float | None,
        Field(gt=0, description="Pause backfill while a replication slot retains more WAL than this, in MB."),
    ] = None
    max_tokens_per_minute: Annotated[
        int | None,
        Field(
            ge=1,
            description="Maximum number of tokens that all workers of the database together send to remote encoders in "
            "a minute. Backfill waits first, edits only if they alone are too many. Searches of the application and of "
            "the service don't count.",
        ),
    ] = None
    max_tokens_per_day: Annotated[
        int | None,
        Field(
            ge=1,
            description="Pause backfill with remote encoders until 00:00 UTC once the workers of the database have "
            "sent them this many tokens. Edits continue, and their tokens count too.",
        ),
    ] = None
    max_dollars_per_day: Annotated[
        float | None,
        Field(gt=0, description="The same in dollars; needs PG_SEMANTIC_DOLLARS_PER_MILLION_TOKENS."),
    ] = None
    dollars_per_million_tokens: Annotated[
        float | None,
        Field(gt=0, description="The price of remote encoders, for PG_SEMANTIC_MAX_DOLLARS_PER_DAY and for forecasts."),
    ] = None
    poll_seconds: Annotated[
        float,
        Field(
            gt=0, description="Interval between polls for jobs, in seconds; ten times as long after ten idle seconds."
        ),
    ] = 0.005
    lease_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="How long a claim stays valid without a heartbeat, in seconds; "
            "workers send at least three in that time.",
        ),
    ] = 60.0
    drain_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="How long a worker or the service may take to finish after SIGTERM or Ctrl-C, in seconds.",
        ),
    ] = 30.0
    max_attempts: Annotated[
        int, Field(ge=1, le=10_000, description="Number of failures after which a job is parked.")
    ] = 5
    retry_seconds: Annotated[
        float,
        Field(gt=0, description="Wait before the second attempt at a job, in seconds; doubles each time, with jitter."),
    ] = 1.0
    log_format: Annotated[
        Literal["text", "json"],
        Field(description="Log format: text for people, json for one JSON object per line."),
    ] = "text"
    statistics_drift: Annotated[
        float,
        Field(gt=0, description="Share of rows that must change before the statistics of BM25 are counted again."),
    ] = 0.1
    statistics_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Age at which the statistics of BM25 are counted again if any row has changed, in seconds.",
        ),
    ] = 3600.0
    recall_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Wait between two measurements of an index with a recall objective, in seconds; longer if "
            "measuring takes more than a hundredth of it.",
        ),
    ] = 60.0
    query_cache: Annotated[
        int,
        Field(ge=0, description="Number of query vectors that the database caches for plain SQL; the newest are kept."),
    ] = 10_000
    vector_index_backlog: Annotated[
        int, Field(ge=0, description="A worker builds the vector index when no more than this many jobs are waiting.")
    ] = 100
    maintenance_work_mem: Annotated[
        str | None,
        Field(
            pattern=r"^[1-9][0-9]*(kB|MB|GB|TB)$",
            description="maintenance_work_mem of a worker's builds, such as 9GB; by default that of its role.",
        ),
    ] = None
    service_api_key: Annotated[
        pydantic.SecretStr | None,
        Field(description="API key that callers of the service must send; without one it answers only this machine."),
    ] = None
    service_requests: Annotated[
        int,
        Field(ge=1, description="Maximum number of requests that the service answers at once; more get status 429."),
    ] = 256
    service_waiting_texts: Annotated[
        int,
        Field(
            ge=1, description="Maximum number of texts that wait for one encoder of the service; more get status 429."
        ),
    ] = 4096
    service_batch_tokens: Annotated[
        int,
        Field(ge=1, description="Maximum number of tokens, from several requests, that the service encodes together."),
    ] = 4096
    service_request_texts: Annotated[
        int, Field(ge=1, description="Maximum number of texts in one request to the service.")
    ] = 2048
    service_text_characters: Annotated[
        int, Field(ge=1, description="Maximum number of characters of a text in a request to the service.")
    ] = 100_000
    service_body_bytes: Annotated[
        int,
        Field(
            ge=1024, description="Maximum size of a request body, in bytes; all bodies together may have 16 times that."
        ),
    ] = 4_194_304
    service_statement_seconds: Annotated[
        float, Field(gt=0, description="Statement timeout for searches through the service, in seconds.")
    ] = 30.0
    service_status_seconds: Annotated[
        float, Field(ge=0, description="How long the service caches the metrics of semantic indexes, in seconds.")
    ] = 10.0


def load(**overrides: object) -> Settings:
    """Loads the settings from the environment.

    Args:
        overrides: Settings that take precedence over the environment, by field name; None is ignored.

    Raises:
        errors.ConfigurationError: A setting is invalid; the message names it.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except (pydantic.ValidationError, pydantic_settings.SettingsError) as error:
        raise errors.ConfigurationError(_explain(error)) from error


def allows_bfloat16() -> bool:
    """Returns whether ONEDNN_MAX_CPU_ISA, which OpenVINO and torch read too, allows bfloat16 instructions."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return limit in {"", "ALL", "DEFAULT"} or limit.startswith(_ISA_WITH_BFLOAT16)


def variable(name: str) -> str:
    """Returns the environment variable of a setting."""
    return f"PG_SEMANTIC_{name.upper()}"


def _explain(error: Exception) -> str:
    if not isinstance(error, pydantic.ValidationError):
        field = _FIELD.search(str(error))
        name = variable(field[1]) if field else "unknown"
        return f"Setting {name} is not valid JSON. See `pg-semantic settings`."
    first = error.errors(include_url=False, include_input=False)[0]
    name = variable(".".join(str(part) for part in first["loc"][:1]))
    is_size = first["type"] == "string_pattern_mismatch"  # the only setting with a pattern
    said = "use a whole number and kB, MB, GB or TB, as in 9GB" if is_size else first["msg"]
    return f"Setting {name} is invalid: {said}. See `pg-semantic settings`."
