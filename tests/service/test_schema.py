"""Whatever the OpenAPI document lets anyone send, or forbids, the service does not fail."""

import itertools
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error

from tests.db.library import Base, encoder, execute, sync
from tests.service import serving

CHECKS: list[CheckFunction] = [not_a_server_error]


@pytest.fixture
def client(engine: sa.Engine) -> Iterator[httpx2.Client]:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO article VALUES (1, 'tea', NULL, 'en')")
    sync(engine)
    with serving.running(encoder(), engine=engine) as made:
        yield made


def test_no_request_that_the_document_describes_or_forbids_makes_it_fail(client: httpx2.Client) -> None:
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    tried = 0
    for result, mode in itertools.product(schema.get_all_operations(), GenerationMode):
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not operation.definition.raw.get("requestBody"):
            continue  # there is nothing to get wrong

        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def attempt(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(base_url=str(client.base_url).rstrip("/"), checks=CHECKS)

        attempt()
        tried += 1
    assert tried >= 11
