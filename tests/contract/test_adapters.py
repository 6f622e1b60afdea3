"""What is built on OpenAI's API works by changing the base URL: the SDK's own conveniences, LangChain and LiteLLM."""

import json

import httpx
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from scripted_engine import ANSWER

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)


class Weather(BaseModel):
    """The weather in a city."""

    city: str = Field(max_length=12)


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}"


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"[say]{text}[/say]"}]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def sdk(server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    )


def langchain(server, **options) -> ChatOpenAI:
    return ChatOpenAI(model="smollm2", base_url=f"{server.url}/v1", api_key="none", max_retries=0, **options)


class TestOpenAI:
    """The official SDK."""

    def test_parse(self, real):
        with sdk(real) as client:
            answer = client.chat.completions.parse(
                model="smollm2", messages=QUESTION, temperature=0, max_tokens=100, response_format=Person
            )
        assert isinstance(answer.choices[0].message.parsed, Person)

    def test_parse_of_a_tool_that_must_be_called(self, real):
        with sdk(real) as client:
            chosen = {"type": "function", "function": {"name": "Weather"}}
            answer = client.chat.completions.parse(
                model="smollm2",
                messages=[{"role": "user", "content": "How is the weather in Paris?"}],
                tools=[openai.pydantic_function_tool(Weather)],
                tool_choice=chosen,
                temperature=0,
                max_tokens=100,
            )
        [call] = answer.choices[0].message.tool_calls
        assert isinstance(call.function.parsed_arguments, Weather)

    def test_stream_with_tools(self, scripted):
        tools = [openai.pydantic_function_tool(Weather, name="weather")]
        with (
            sdk(scripted) as client,
            client.chat.completions.stream(model="smollm2", messages=says(f"I look.{CALL}"), tools=tools) as stream,
        ):
            kinds = {event.type for event in stream}
            choice = stream.get_final_completion().choices[0]
        assert choice.message.content == "I look."
        assert choice.message.tool_calls[0].function.parsed_arguments == Weather(city="Paris")
        assert choice.finish_reason == "tool_calls"
        assert {"content.delta", "tool_calls.function.arguments.delta"} <= kinds

    def test_several_answers_with_logprobs(self, scripted):
        with sdk(scripted) as client:
            asked = {"model": "smollm2", "n": 3, "max_tokens": 5}
            chat = client.chat.completions.create(messages=QUESTION, logprobs=True, top_logprobs=2, **asked)
            text = client.completions.create(prompt="Once", logprobs=2, **asked)
        assert [len(choice.logprobs.content) for choice in chat.choices] == [5, 5, 5]
        assert [len(choice.logprobs.tokens) for choice in text.choices] == [5, 5, 5]


class TestLangChain:
    """ChatOpenAI of langchain-openai."""

    def test_invoke(self, scripted):
        answer = langchain(scripted).invoke("What is the capital of France?")
        assert (answer.content, answer.response_metadata["finish_reason"]) == (ANSWER, "stop")
        assert answer.usage_metadata["output_tokens"] > 10

    def test_stream(self, scripted):
        pieces = list(langchain(scripted, stream_usage=True).stream("What is the capital of France?"))
        assert "".join(piece.content for piece in pieces) == ANSWER
        assert len([piece for piece in pieces if piece.content]) > 10
        assert sum((piece.usage_metadata or {}).get("output_tokens", 0) for piece in pieces) > 10

    def test_tools_there_and_back(self, scripted):
        model = langchain(scripted).bind_tools([weather])
        question = HumanMessage(f"[say]{CALL}[/say]")
        answer = model.invoke([question])
        [call] = answer.tool_calls
        assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
        result = weather.invoke(call)
        assert isinstance(result, ToolMessage)
        assert isinstance(model.invoke([question, answer, result]), AIMessage)
        streamed = None
        for chunk in model.stream([question]):
            streamed = chunk if streamed is None else streamed + chunk
        assert streamed.tool_calls[0]["args"] == {"city": "Paris"}

    @pytest.mark.parametrize(
        ("method", "text"),
        [
            ("json_schema", '{"name": "Ada", "age": 36}'),
            ("json_mode", '{"name": "Ada", "age": 36}'),
            (
                "function_calling",
                '<tool_call>\n{"name": "Person", "arguments": {"name": "Ada", "age": 36}}\n</tool_call>',
            ),
        ],
    )
    def test_structured_output(self, scripted, method, text):
        model = langchain(scripted).with_structured_output(Person, method=method)
        assert model.invoke(f"[say]{text}[/say]") == Person(name="Ada", age=36)

    def test_responses(self, scripted):
        model = langchain(scripted, use_responses_api=True)
        answer = model.invoke("What is the capital of France?")
        assert answer.text == ANSWER
        called = model.bind_tools([weather]).invoke(f"[say]{CALL}[/say]")
        assert called.tool_calls[0]["args"] == {"city": "Paris"}
        result = weather.invoke(called.tool_calls[0])
        assert model.bind_tools([weather]).invoke([HumanMessage("Weather?"), called, result]).text == ANSWER
        assert "".join(chunk.text for chunk in model.stream("What is the capital of France?")) == ANSWER


class TestLiteLLM:
    """litellm.completion with the openai/ prefix."""

    @pytest.fixture(autouse=True)
    def _litellm(self, monkeypatch):
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import asks a server elsewhere
        self.litellm = pytest.importorskip("litellm", reason="needs litellm (pip install litellm)")

    def ask(self, server, **asked):
        return self.litellm.completion(
            model="openai/smollm2", api_base=f"{server.url}/v1", api_key="none", num_retries=0, **asked
        )

    def test_completion(self, scripted):
        answer = self.ask(scripted, messages=QUESTION, temperature=0.5, max_tokens=100)
        assert answer.choices[0].message.content == ANSWER
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    def test_stream(self, scripted):
        pieces = list(self.ask(scripted, messages=QUESTION, stream=True, stream_options={"include_usage": True}))
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == ANSWER
        assert [piece.choices[0].finish_reason for piece in pieces if piece.choices[0].finish_reason] == ["stop"]

    def test_tools(self, scripted):
        offered = [{"type": "function", "function": {"name": "weather", "parameters": Weather.model_json_schema()}}]
        answer = self.ask(scripted, messages=says(CALL), tools=offered)
        [call] = answer.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
        assert answer.choices[0].finish_reason == "tool_calls"

    def test_errors_are_its_own(self, scripted):
        with pytest.raises(self.litellm.BadRequestError, match="temperature"):
            self.ask(scripted, messages=QUESTION, temperature=-1)
