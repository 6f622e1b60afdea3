"""Requests that name no model are for the one that is served."""

import httpx
import pytest
from event_reader import read
from patience import PATIENCE
from schema_cases import BODIES, CLASSIFY, LAST_EVENTS

# Anthropic's clients always name one; the served model has no labels.
PATHS = [path for path in BODIES if not path.startswith("/v1/messages") and path not in CLASSIFY]


@pytest.mark.parametrize("given", [{}, {"model": None}, {"model": ""}], ids=["absent", "null", "empty"])
@pytest.mark.parametrize("path", PATHS)
def test_the_served_model_answers(scripted, path, given):
    body = {name: value for name, value in BODIES[path].items() if name != "model"} | given
    answer = httpx.post(f"{scripted.url}{path}", json=body, timeout=PATIENCE, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.json().get("model", "smollm2") == "smollm2"


@pytest.mark.parametrize("path", [path for path in LAST_EVENTS if path in PATHS])
def test_so_do_streams(scripted, path):
    body = {name: value for name, value in BODIES[path].items() if name != "model"} | {"stream": True}
    with httpx.stream("POST", f"{scripted.url}{path}", json=body, timeout=PATIENCE, trust_env=False) as answer:
        first = next(read(answer.iter_lines())).data
    assert first.get("response", first)["model"] == "smollm2"
