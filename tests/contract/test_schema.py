"""Whatever a client sends within or outside of the published schema, no answer is a 5xx, and nothing is left behind. A
seeded slice; with OCTAVO_SOAK=1, over 20,000 requests."""

import os
import time

import psutil
import pytest
from schema_cases import BODIES, operations, send_cases
from schemathesis import GenerationMode

SOAK = os.environ.get("OCTAVO_SOAK") == "1"
EXAMPLES = 1400 if SOAK else 40
ROUNDS = 4 if SOAK else 1
MOST_GROWTH = 48 << 20  # bytes of the server's memory behind the first round
WITHOUT_BODY = ["/v1/models", "/v1/models/{name}", "/health", "/health/live", "/health/ready", "/load", "/version"]


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", BODIES)
def test_no_request_makes_a_server_error(scripted, path, mode):
    [operation] = [one for one in operations(scripted.url) if one.path == path]
    memory = []
    for number in range(ROUNDS):
        statuses = send_cases(operation, mode, EXAMPLES // ROUNDS, number)
        assert sum(statuses.values()) > 0
        memory.append(psutil.Process(scripted.process.pid).memory_info().rss)
    assert memory[-1] - memory[0] < MOST_GROWTH
    until = time.monotonic() + 20
    while scripted.metric("octavo_requests_running") or scripted.metric("octavo_kv_cache_usage_ratio"):
        assert time.monotonic() < until, "requests are left in the engine"
        time.sleep(0.05)


@pytest.mark.parametrize("path", WITHOUT_BODY)
def test_no_question_makes_a_server_error(scripted, path):
    [operation] = [one for one in operations(scripted.url) if one.path == path]
    assert sum(send_cases(operation, GenerationMode.POSITIVE, EXAMPLES // 4, number=1).values()) > 0


def test_every_published_route_is_tried(scripted):
    assert sorted(one.path for one in operations(scripted.url)) == sorted([*BODIES, *WITHOUT_BODY])
