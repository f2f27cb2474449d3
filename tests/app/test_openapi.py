"""Requests drawn by schemathesis from the API's own OpenAPI file: each is answered as the file says."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

NOTHING_GIVEN = ("GET /api/v1/health", "GET /api/v1/models")  # there is nothing in them that could be wrong


def drawn(address: str, examples: int) -> set[tuple[str, int]]:
    """Sends what is drawn for each operation, proper and improper; the answers, each of which is checked."""
    schema = schemathesis.openapi.from_url(f"{address}api/openapi.json")
    found: set[tuple[str, int]] = set()
    for operation in (one.ok() for one in schema.get_all_operations()):
        run(operation, GenerationMode.POSITIVE, examples, found)
        if operation.label not in NOTHING_GIVEN:
            run(operation, GenerationMode.NEGATIVE, examples, found)
    return found


def run(operation: Any, mode: GenerationMode, examples: int, found: set[tuple[str, int]]) -> None:
    # bytes of any kind fit the file's schema, and photos are few among them
    excluded = [positive_data_acceptance] if operation.label == "POST /api/v1/predict" else []

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=[*HealthCheck]
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        answer = case.call_and_validate(excluded_checks=excluded)
        found.add((operation.label, answer.status_code))

    check()


def test_a_few_requests_of_each_kind(server, tmp_path):
    with server(root=tmp_path) as address:
        found = drawn(address, 3)
    assert len({label for label, _ in found}) == 10
    assert max(status for _, status in found) < 500
    assert ("POST /api/v1/games", 201) in found


@pytest.mark.slow
def test_many_requests_of_each_kind(server, photos):
    with server(root=photos, upload_mib=1) as address:
        found = drawn(address, 40)
    assert max(status for _, status in found) < 500
