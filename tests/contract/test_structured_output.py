"""Answers of a given form, through the official SDK and the real engine."""

import json
import re
from typing import Literal

import httpx
import jsonschema
import openai
import pydantic
import pytest

pytestmark = pytest.mark.slow

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "inhabitants": {"type": "integer", "minimum": 0, "maximum": 9999},
        "rivers": {"type": "array", "items": {"enum": ["Seine", "Loire"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["city", "inhabitants", "rivers"],
    "additionalProperties": False,
}
QUESTION = [{"role": "user", "content": "Describe Paris as JSON."}]


@pytest.fixture
def client(real):
    with openai.OpenAI(
        base_url=f"{real.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        yield client


def chat(client, **asked):
    return client.chat.completions.create(**{"model": "smollm2", "messages": QUESTION, "max_tokens": 150, **asked})


@pytest.mark.parametrize("strict", [True, False])
def test_json_schema(client, strict):
    named = {"name": "city", "schema": SCHEMA, "strict": strict}
    answer = chat(client, response_format={"type": "json_schema", "json_schema": named}, n=2, seed=1)
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content), SCHEMA)


def test_json_schema_in_a_stream(client):
    named = {"name": "city", "schema": SCHEMA}
    asked = {"response_format": {"type": "json_schema", "json_schema": named}, "temperature": 0}
    pieces = [chunk.choices[0].delta.content or "" for chunk in chat(client, stream=True, **asked)]
    assert len(pieces) > 5
    jsonschema.validate(json.loads("".join(pieces)), SCHEMA)


def test_the_sdk_parses_an_answer_into_a_pydantic_model(client):
    class City(pydantic.BaseModel):
        name: Literal["Paris", "Lyon"]
        large: bool

    answer = client.chat.completions.parse(
        model="smollm2", messages=QUESTION, response_format=City, max_tokens=60, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, City)


def test_json_object(client):
    answer = chat(client, response_format={"type": "json_object"}, temperature=0, max_tokens=400)
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    else:
        assert answer.choices[0].message.content.lstrip().startswith("{")


@pytest.mark.parametrize(
    "form", [{"guided_regex": r"[A-F]{3}-\d{4}"}, {"structured_outputs": {"regex": r"[A-F]{3}-\d{4}"}}]
)
def test_regex(client, form):
    answer = chat(client, seed=4, extra_body=form)
    assert re.fullmatch(r"[A-F]{3}-\d{4}", answer.choices[0].message.content)


@pytest.mark.parametrize("name", ["guided_choice", "choice"])
def test_choice(client, name):
    choices = ["a green one", "a blue one"]
    form = {"structured_outputs": {"choice": choices}} if name == "choice" else {name: choices}
    answer = chat(client, n=4, seed=2, extra_body=form)
    assert {choice.message.content for choice in answer.choices} <= set(choices)
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}


@pytest.mark.parametrize("name", ["guided_grammar", "grammar"])
def test_grammar(client, name):
    grammar = 'root ::= "SELECT " column " FROM t"\ncolumn ::= "a" | "b"'
    form = {"structured_outputs": {"grammar": grammar}} if name == "grammar" else {name: grammar}
    answer = client.completions.create(model="smollm2", prompt="SQL: ", max_tokens=30, extra_body=form)
    assert answer.choices[0].text in ("SELECT a FROM t", "SELECT b FROM t")


@pytest.mark.parametrize("as_text", [True, False])
def test_guided_json(client, as_text):
    schema = json.dumps(SCHEMA) if as_text else SCHEMA
    answer = chat(client, temperature=0, extra_body={"guided_json": schema})
    jsonschema.validate(json.loads(answer.choices[0].message.content), SCHEMA)


def test_log_probabilities_and_a_form_go_together(client):
    answer = chat(client, logprobs=True, extra_body={"guided_choice": ["yes", "no"]})
    tokens = [entry.token for entry in answer.choices[0].logprobs.content]
    assert "".join(tokens) == answer.choices[0].message.content
