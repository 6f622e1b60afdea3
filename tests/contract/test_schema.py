"""Whatever a client sends within or outside of the published schema, no answer is a 5xx."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

# `make soak` asks for more.
EXAMPLES = int(os.environ.get("OCTAVO_SCHEMA_EXAMPLES", "40"))

TRANSLATED = ["/v1/responses", "/v1/messages", "/tokenize"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", *TRANSLATED])
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_makes_a_server_error(scripted, path, mode):
    schema = schemathesis.openapi.from_url(f"{scripted.url}/openapi.json")
    operation = schema[path]["POST"]

    @seed(1)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(data=st.data())
    def send(data):
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if isinstance(case.body, dict) and data.draw(st.booleans()):
            case.body["model"] = "smollm2"
        response = case.call(timeout=20)
        case.validate_response(response, checks=[not_a_server_error])
        if response.status_code >= 400:
            fields = {"message", "type"} if path == "/v1/messages" else {"message", "type", "param", "code"}
            assert set(response.json()["error"]) == fields

    send()
    assert scripted.process.poll() is None
