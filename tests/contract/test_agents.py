"""Coding agents out of the box: what they send with their default settings gets an answer. The bodies in agents/ are
what their command-line programs sent to this server, fields and types as they were, texts and most tools left out."""

import json
from pathlib import Path

import httpx
import pytest
from patience import PATIENCE

AGENTS = {path.stem: json.loads(path.read_text()) for path in sorted(Path(__file__).with_name("agents").glob("*.json"))}
BODIES = [(name, number) for name, agent in AGENTS.items() for number in range(len(agent["bodies"]))]


def post(server, agent, body):
    return httpx.post(
        f"{server.url}{agent['path']}", json=body, headers=agent["headers"], trust_env=False, timeout=PATIENCE
    )


@pytest.mark.parametrize(("name", "number"), BODIES)
def test_an_agent_gets_its_answer_and_is_told_what_was_ignored(scripted, name, number):
    agent = AGENTS[name]
    body = agent["bodies"][number]
    response = post(scripted, agent, body)
    assert response.status_code == 200, response.text
    ignored = response.headers.get("x-octavo-ignored")
    assert ignored == (", ".join(agent["ignored"]) or None)
    assert "Paris" in response.text
    assert '"error":{' not in response.text


@pytest.fixture(scope="module")
def strict(scripted_servers):
    server = scripted_servers("--strict")
    server.wait_ready()
    return server


@pytest.mark.parametrize("name", AGENTS)
def test_a_strict_server_refuses_the_same_by_name(strict, name):
    agent = AGENTS[name]
    response = post(strict, agent, agent["bodies"][0])
    if not agent["ignored"]:
        assert response.status_code == 200, response.text
        return
    assert response.status_code == 400
    # A number of tokens beyond the room is a fault of both, the prompt and the number.
    names = [name.replace("output_config.", "") for name in agent["ignored"]]
    assert any(name in response.json()["error"]["message"] for name in names)
    assert "x-octavo-ignored" not in response.headers
