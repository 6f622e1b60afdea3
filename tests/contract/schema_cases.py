"""Requests of every published route, drawn by schemathesis from within and outside of the schema, and what must hold of
each answer. BODIES: a good request for each POST route; three cases in four are it with a few fields of a drawn one, so
that they get past the first check."""

from collections import Counter

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

ASKED = [{"role": "user", "content": "Tell a tale of the sea."}]
RERANK = ("/rerank", "/v1/rerank", "/v2/rerank")
SCORE, CLASSIFY = ("/score", "/v1/score"), ("/classify", "/v1/classify")
BODIES = {
    "/v1/chat/completions": {"model": "smollm2", "messages": ASKED, "max_tokens": 8},
    "/v1/completions": {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 8},
    "/v1/responses": {"model": "smollm2", "input": "Tell a tale of the sea.", "max_output_tokens": 16, "store": False},
    "/v1/responses/input_tokens": {"model": "smollm2", "input": "A tale of the sea."},
    "/v1/messages": {"model": "smollm2", "messages": ASKED, "max_tokens": 8},
    "/v1/messages/count_tokens": {"model": "smollm2", "messages": ASKED},
    "/v1/embeddings": {"model": "smollm2", "input": "A tale of the sea."},
    **{path: {"model": "smollm2", "query": "A tale", "documents": ["of the sea", "of a hill"]} for path in RERANK},
    **{path: {"model": "smollm2", "text_1": "A tale", "text_2": ["of the sea", "of a hill"]} for path in SCORE},
    **{path: {"model": "smollm2", "input": "A tale of the sea."} for path in CLASSIFY},
    "/tokenize": {"prompt": "A tale of the sea."},
    "/detokenize": {"tokens": [504, 2830, 282]},
}
WITHOUT_BODY = ("/v1/models", "/v1/models/{name}", "/health", "/health/live", "/health/ready", "/load", "/version")
# Each route, within the schema and outside of it; nothing that is sent to those without a body is outside.
KINDS = [
    *((path, mode) for path in BODIES for mode in GenerationMode),
    *((path, GenerationMode.POSITIVE) for path in WITHOUT_BODY),
]
# How the last event of a stream that came to its end begins.
LAST_EVENTS = {
    "/v1/chat/completions": ("data: [DONE]",),
    "/v1/completions": ("data: [DONE]",),
    "/v1/responses": ("event: response.completed", "event: response.incomplete"),
    "/v1/messages": ("event: message_stop",),
}
SECONDS = 600  # longer than any case takes: one that takes longer hangs
MOST_FIELDS = 3


def operations(url: str) -> dict[str, schemathesis.schemas.APIOperation]:
    """Every operation that the server at `url` publishes, by its path."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    return {result.ok().path: result.ok() for result in schema.get_all_operations()}


def send_cases(operation, mode: GenerationMode, examples: int, number: int) -> Counter[int]:
    """Sends at most `examples` cases, the same for the same `number`, and looks at each answer; how many had which
    status."""
    statuses: Counter[int] = Counter()

    @seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(data=st.data())
    def send(data):
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if isinstance(case.body, dict) and case.body and data.draw(st.sampled_from((False, True, True, True))):
            laid = data.draw(st.lists(st.sampled_from(sorted(case.body)), max_size=MOST_FIELDS, unique=True))
            case.body = BODIES[operation.path] | {name: case.body[name] for name in laid}
        # Case.call() reads the first 20 events of a stream.
        response = requests.request(**case.as_transport_kwargs(), timeout=SECONDS)
        statuses[response.status_code] += 1
        look_at(response, operation.path)

    send()
    return statuses


def look_at(response, path: str) -> None:
    """No 5xx but a stated 503; errors in their shape; streams whole."""
    status = response.status_code
    assert status < 500 or (status == 503 and "Retry-After" in response.headers), (status, response.text[:500])
    assert "x-request-id" in response.headers
    if status >= 400:
        fields = {"message", "type"} if path.startswith("/v1/messages") else {"message", "type", "param", "code"}
        assert set(response.json()["error"]) == fields
        assert "\n" not in response.json()["error"]["message"]
    elif response.headers["content-type"].startswith("text/event-stream"):
        last = response.text.rstrip("\n").rpartition("\n\n")[2]
        assert last.startswith(LAST_EVENTS[path]), last[:500]
