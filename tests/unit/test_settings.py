import os
from pathlib import Path

import pydantic
import pytest

from pg_semantic import errors, settings
from pg_semantic.settings import Endpoint, PromptPair, Settings
from tests import documents

IN_THE_ENVIRONMENT: dict[str, tuple[str, object]] = {
    "dsn": ("postgresql://app@localhost/shop", pydantic.SecretStr("postgresql://app@localhost/shop")),
    "encoder_paths": ('{"org/name": "/weights"}', {"org/name": "/weights"}),
    "encoder_urls": ('{"org/name": "http://host:8080/v1"}', {"org/name": Endpoint(url="http://host:8080/v1")}),
    "encoder_prompts": (
        '{"org/name": {"query": "query: ", "document": ""}}',
        {"org/name": PromptPair(query="query: ", document="")},
    ),
    "remote_api_key": ("hunter2", pydantic.SecretStr("hunter2")),
    "remote_batch": ("8", 8),
    "remote_concurrency": ("2", 2),
    "remote_timeout_seconds": ("2.5", 2.5),
    "remote_retries": ("0", 0),
    "device": ("cuda:1", "cuda:1"),
    "backend": ("openvino", "openvino"),
    "precision": ("float32", "float32"),
    "token_budget": ("4096", 4096),
    "cache_folder": ("/var/cache/encoders", Path("/var/cache/encoders")),
    "batch_rows": ("10", 10),
    "batch_bytes": ("1000000", 1_000_000),
    "batch_seconds": ("0.5", 0.5),
    "write_seconds": ("0.2", 0.2),
    "maintenance_work_mem": ("9GB", "9GB"),
    "max_wal_mb_s": ("20", 20.0),
    "max_replay_lag_seconds": ("10", 10.0),
    "max_slot_wal_mb": ("5000", 5000.0),
    "max_tokens_per_minute": ("1000000", 1_000_000),
    "max_tokens_per_day": ("50000000", 50_000_000),
    "max_dollars_per_day": ("2.5", 2.5),
    "dollars_per_million_tokens": ("0.02", 0.02),
    "write_connections": ("4", 4),
    "drain_seconds": ("3", 3.0),
    "log_format": ("json", "json"),
    "poll_seconds": ("0.5", 0.5),
    "lease_seconds": ("30", 30.0),
    "max_attempts": ("3", 3),
    "retry_seconds": ("2.5", 2.5),
    "statistics_drift": ("0.5", 0.5),
    "statistics_seconds": ("60", 60.0),
    "recall_seconds": ("30", 30.0),
    "query_cache": ("0", 0),
    "vector_index_backlog": ("0", 0),
    "service_api_key": ("hunter2", pydantic.SecretStr("hunter2")),
    "service_requests": ("8", 8),
    "service_waiting_texts": ("16", 16),
    "service_batch_tokens": ("512", 512),
    "service_request_texts": ("4", 4),
    "service_text_characters": ("100", 100),
    "service_body_bytes": ("2048", 2048),
    "service_statement_seconds": ("2.5", 2.5),
    "service_status_seconds": ("0", 0.0),
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PG_SEMANTIC_"):
            monkeypatch.delenv(name)


def test_every_setting_is_tried_here() -> None:
    assert IN_THE_ENVIRONMENT.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", IN_THE_ENVIRONMENT)
def test_a_setting_is_read_from_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, value = IN_THE_ENVIRONMENT[name]
    monkeypatch.setenv(settings.variable(name), text)
    assert getattr(settings.load(), name) == value


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is(name: str) -> None:
    assert Settings.model_fields[name].description


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("encoder_paths", "[1]"),
        ("encoder_paths", "{not json"),
        ("encoder_urls", '{"org/name": "host/v1"}'),
        ("encoder_urls", '{"org/name": "ftp://host/v1"}'),
        ("encoder_urls", '{"org/name": "file:///etc/passwd"}'),
        ("encoder_urls", '{"org/name": "http://user:password@host/v1"}'),
        ("encoder_urls", '{"org/name": "http://host/v1?key=secret"}'),
        ("encoder_urls", '{"org/name": {"model": "other"}}'),
        ("encoder_urls", '{"org/name": {"url": "http://host/v1", "speed": 1}}'),
        ("encoder_urls", '{"org/name": {"url": "http://host/v1", "max_tokens": 0}}'),
        ("remote_batch", "0"),
        ("remote_concurrency", "0"),
        ("remote_timeout_seconds", "0"),
        ("remote_retries", "-1"),
        ("token_budget", "0"),
        ("token_budget", "many"),
        ("batch_rows", "10001"),
        ("batch_rows", ""),
        ("write_seconds", "0"),
        ("write_connections", "0"),
        ("write_connections", "5"),
        ("maintenance_work_mem", "9 GB"),
        ("maintenance_work_mem", "0MB"),
        ("max_wal_mb_s", "0"),
        ("max_replay_lag_seconds", "-1"),
        ("max_slot_wal_mb", "0"),
        ("max_tokens_per_minute", "0"),
        ("max_tokens_per_day", "1.5"),
        ("max_dollars_per_day", "0"),
        ("dollars_per_million_tokens", "free"),
        ("batch_seconds", "0"),
        ("drain_seconds", "-1"),
        ("log_format", "xml"),
        ("max_attempts", "10001"),
        ("poll_seconds", "0"),
        ("poll_seconds", "nan"),
        ("lease_seconds", "0.5"),
        ("max_attempts", "0"),
        ("retry_seconds", "-1"),
        ("query_cache", "-1"),
        ("vector_index_backlog", "-1"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(settings.variable(name), text)
    with pytest.raises(errors.ConfigurationError) as refusal:
        settings.load()
    assert settings.variable(name) in str(refusal.value)
    assert "pg-semantic settings" in str(refusal.value)


def test_a_password_is_shown_nowhere() -> None:
    loaded = settings.load(dsn="postgresql://app:hunter2@localhost/shop")
    assert "hunter2" not in f"{loaded!r} {loaded} {loaded.model_dump()} {loaded.model_dump_json()}"


def test_a_key_is_shown_nowhere() -> None:
    loaded = settings.load(remote_api_key="hunter2")
    assert "hunter2" not in f"{loaded!r} {loaded} {loaded.model_dump()} {loaded.model_dump_json()}"


def test_an_endpoint_is_given_as_a_url_or_with_what_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PG_SEMANTIC_ENCODER_URLS",
        '{"a": "http://host/v1/", "b": {"url": "https://host/v1", "model": "c", "query_prompt": "query: "}}',
    )
    assert settings.load().encoder_urls == {
        "a": Endpoint(url="http://host/v1"),
        "b": Endpoint(url="https://host/v1", model="c", query_prompt="query: "),
    }


def test_the_endpoint_in_the_documents_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    page = documents.ROOT / "docs" / "reference" / "encoders.md"
    [shown] = [text for text in documents.blocks(page, "json") if '"url"' in text]
    monkeypatch.setenv("PG_SEMANTIC_ENCODER_URLS", shown)
    [endpoint] = settings.load().encoder_urls.values()
    assert endpoint.model_fields_set == Endpoint.model_fields.keys()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("token_budget", "hunter2"),
        ("encoder_urls", '{"org/name": "http://user:hunter2@host/v1"}'),
        ("encoder_urls", '{"org/name": "hunter2"}'),
    ],
)
def test_a_value_that_is_refused_is_not_repeated(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.variable(name), text)
    with pytest.raises(errors.ConfigurationError) as refusal:
        settings.load()
    assert "hunter2" not in f"{refusal.value} {refusal.value.__cause__}"


def test_an_override_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_SEMANTIC_DEVICE", "cpu")
    assert settings.load(device="mps").device == "mps"


def test_an_override_of_none_leaves_the_environment_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_SEMANTIC_DEVICE", "cpu")
    assert settings.load(device=None).device == "cpu"


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(errors.ConfigurationError, match="PG_SEMANTIC_NONSENSE"):
        settings.load(nonsense=1)


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.load().token_budget = 1  # type: ignore[misc]


@pytest.mark.parametrize("size", ["9gb", "9 GB", "9", "1.5GB", "0GB"])
def test_a_size_that_the_server_would_refuse_is_refused_in_words(size: str) -> None:
    with pytest.raises(
        errors.ConfigurationError, match="MEM is invalid: use a whole number and kB, MB, GB or TB, as in 9GB"
    ):
        settings.load(maintenance_work_mem=size)
