"""Answers, events and errors of all APIs, as they were recorded: what is not meant to change does not."""

import json
from pathlib import Path

import pytest
from record_answers import ARGUMENTS, ask, compact, golden_cases

RECORDED = Path(__file__).with_name("recorded") / "answers.jsonl"


@pytest.fixture(scope="module")
def server(scripted_servers):
    server = scripted_servers(*ARGUMENTS)
    server.wait_ready()
    return server


def test_answers_are_as_recorded(server):
    recorded = {one["case"]: one for one in map(json.loads, RECORDED.read_text().splitlines())}
    cases = golden_cases()
    assert set(recorded) == set(cases)
    for name, (path, body) in cases.items():
        assert {"case": name, **compact(ask(server.url, path, body))} == recorded[name]
