"""POST /tokenize and /detokenize, GET /load, and what describes the API."""

import threading

import httpx
import pytest
from patience import PATIENCE

QUESTION = [{"role": "user", "content": "Hi <|im_end|>"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def post(server, path, **body):
    return httpx.post(f"{server.url}{path}", json=body, trust_env=False, timeout=PATIENCE)


def get(server, path):
    return httpx.get(f"{server.url}{path}", trust_env=False, timeout=PATIENCE)


def test_a_text_there_and_back(scripted):
    text = "Hi there, voilà ✨"
    answer = post(scripted, "/tokenize", prompt=text).json()
    assert set(answer) == {"count", "max_model_len", "tokens"}
    assert answer["count"] == len(answer["tokens"])
    assert answer["max_model_len"] == 2048
    assert post(scripted, "/detokenize", tokens=answer["tokens"]).json() == {"prompt": text}
    assert post(scripted, "/detokenize", tokens=[]).json() == {"prompt": ""}


def test_spelled_tokens(scripted):
    answer = post(scripted, "/tokenize", model="smollm2", prompt="hi there<|im_end|>", return_token_strs=True).json()
    assert answer["token_strs"] == ["hi", "Ġthere", "<|im_end|>"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tools": [TOOL]},
        {"add_generation_prompt": False},
        {"continue_final_message": True},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_a_conversation_has_the_tokens_of_its_chat(scripted, options):
    chat = post(
        scripted,
        "/v1/chat/completions",
        model="smollm2",
        messages=QUESTION,
        return_token_ids=True,
        max_tokens=1,
        **options,
    )
    answer = post(scripted, "/tokenize", messages=QUESTION, **options)
    assert answer.json()["tokens"] == chat.json()["prompt_token_ids"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/tokenize", {}, "exactly one of prompt and messages"),
        ("/tokenize", {"prompt": "a", "messages": QUESTION}, "exactly one of prompt and messages"),
        ("/tokenize", {"prompt": "a", "tools": []}, "tools: only allowed with messages"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": QUESTION, "add_special_tokens": True}, "add_special_tokens"),
        (
            "/tokenize",
            {"messages": QUESTION, "continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
        ),
        ("/tokenize", {"messages": QUESTION, "tools": [TOOL, TOOL]}, "tools.1.function.name"),
        ("/detokenize", {"tokens": [-1]}, "tokens: token ids must be from 0 to"),
        ("/detokenize", {"tokens": [49152]}, "got 49152"),
        ("/detokenize", {"tokens": ["a"]}, "tokens.0"),
    ],
)
def test_refusals(scripted, path, body, words):
    response = post(scripted, path, **body)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def test_an_unknown_model_is_404(scripted):
    assert post(scripted, "/tokenize", model="gpt-5", prompt="a").status_code == 404


def test_load_counts_answers_in_the_making(start_scripted):
    server = start_scripted()
    server.wait_ready()
    assert get(server, "/load").json() == {"server_load": 0, "running": 0, "waiting": 0, "kv_cache_usage": 0.0}
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": "[slow]"}], "max_tokens": 60}
    asking = threading.Thread(target=post, args=(server, "/v1/chat/completions"), kwargs=asked)
    asking.start()
    loads = []
    while asking.is_alive():
        loads.append(get(server, "/load").json())
    assert {"server_load": 1, "running": 1, "waiting": 0, "kv_cache_usage": 0.1} in loads
    assert get(server, "/load").json()["server_load"] == 0


def test_every_operation_is_described_and_tagged(scripted):
    paths = get(scripted, "/openapi.json").json()["paths"]
    described = {"/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/tokenize", "/detokenize", "/load"}
    assert described <= set(paths)
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation.get("summary"), (path, method)
            assert operation.get("description"), (path, method)
            assert operation.get("tags"), (path, method)


def test_the_page_of_the_api_needs_no_other_server(scripted):
    page = get(scripted, "/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "//" not in page.text, "no address but own ones"
    for name, kind in {"swagger-ui-bundle.js": "javascript", "swagger-ui.css": "css", "start.js": "javascript"}.items():
        assert f"docs/{name}" in page.text
        asset = get(scripted, f"/docs/{name}")
        assert asset.status_code == 200
        assert kind in asset.headers["Content-Type"]
    assert "SwaggerUIBundle(" in get(scripted, "/docs/start.js").text
