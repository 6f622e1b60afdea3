"""Requests of every published route, drawn by schemathesis from within and outside of the schema, and what must hold of
each answer. BODIES: a good request for each POST route, under which fields of a drawn one are laid now and then: so
that a case gets past the first check that it fails."""

from collections import Counter

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

ASKED = [{"role": "user", "content": "Tell a tale of the sea."}]
BODIES = {
    "/v1/chat/completions": {"model": "smollm2", "messages": ASKED, "max_tokens": 8},
    "/v1/completions": {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 8},
    "/v1/responses": {"model": "smollm2", "input": "Tell a tale of the sea.", "max_output_tokens": 16, "store": False},
    "/v1/messages": {"model": "smollm2", "messages": ASKED, "max_tokens": 8},
    "/v1/messages/count_tokens": {"model": "smollm2", "messages": ASKED},
    "/v1/embeddings": {"model": "smollm2", "input": "A tale of the sea."},
    "/tokenize": {"prompt": "A tale of the sea."},
    "/detokenize": {"tokens": [504, 2830, 282]},
}
# How the last event of a stream that came to its end begins.
LAST_EVENTS = {
    "/v1/chat/completions": ("data: [DONE]",),
    "/v1/completions": ("data: [DONE]",),
    "/v1/responses": ("event: response.completed", "event: response.incomplete"),
    "/v1/messages": ("event: message_stop",),
}
SECONDS = 60  # longer than any case takes; a case that takes longer hangs
MOST_FIELDS = 4


def operations(url: str) -> list[schemathesis.schemas.APIOperation]:
    """Every operation that the server at `url` publishes."""
    found = [result.ok() for result in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()]
    missing = set(BODIES) ^ {one.path for one in found if one.method == "post"}
    assert not missing, f"routes without a body in BODIES, or no longer there: {missing}"
    return found


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
        if isinstance(case.body, dict):
            good = data.draw(st.sampled_from([{}, {"model": "smollm2"}, BODIES[operation.path]]))
            drawn = data.draw(st.lists(st.sampled_from(sorted(case.body)), max_size=MOST_FIELDS)) if case.body else ()
            case.body = good | {name: case.body[name] for name in drawn or case.body}
        response = case.call(timeout=SECONDS)
        statuses[response.status_code] += 1
        look_at(response, operation.path)

    send()
    return statuses


def look_at(response, path: str) -> None:
    """No 5xx but a stated 503; errors in their shape; streams whole."""
    status = response.status_code
    assert status < 500 or (status == 503 and "retry-after" in response.headers), (status, response.text[:500])
    assert "x-request-id" in response.headers
    if status >= 400:
        fields = {"message", "type"} if path.startswith("/v1/messages") else {"message", "type", "param", "code"}
        assert set(response.json()["error"]) == fields
        assert "\n" not in response.json()["error"]["message"]
    elif response.headers["content-type"][0].startswith("text/event-stream"):
        last = response.text.rstrip("\n").rpartition("\n\n")[2]
        assert last.startswith(LAST_EVENTS[path]), last[:500]
