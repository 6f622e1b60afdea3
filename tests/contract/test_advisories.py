"""Classes of vulnerability that advisories about servers like this one tell of, each with what shows that it is not
here. Some are shown where their part is tested:

- code in a chat template, templates without end: tests/unit/runtime/text/test_chat_template.py
- `auto_map`, code that comes with a model: tests/unit/runtime/text/test_remote_code.py
- timing of keys: test_api_keys.py; tenants that share a cache: test_sampling.py
- heads, nesting, lists, numbers without bound, slow clients, path traversal: test_bounds.py
- requests smuggled by a proxy in front: test_nginx.py, and by two readings of one request: test_bounds.py
- schemas and expressions that do not compile, tokens that do not exist: test_bad_requests.py; those that never end:
  tests/unit/runtime/structured/test_structured.py
- forged log lines: test_logs.py; markup in the page: test_ui.py
"""

import ast
import gzip
import json
import socket
import threading
import time
import zlib
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest
from patience import PATIENCE

import octavo_kernels
import octavo_operator
import octavo_runtime
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.kv_cache.block_pool import BlockPool
from octavo_runtime.engine.kv_cache.prefix_hash import block_hash, root_hash
from octavo_runtime.models.loading.files import locate
from octavo_runtime.server.reasoning.splitter import ReasoningSplitter
from octavo_runtime.server.tools.event import Content
from octavo_runtime.server.tools.parsers import parser_of
from octavo_runtime.server.tools.syntax import SYNTAXES
from octavo_runtime.worker.device.cpu import cpu_executor

pytestmark = pytest.mark.slow

CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "vocab_size": 4,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
PACKAGES = [Path(package.__file__).parent for package in (octavo_runtime, octavo_operator, octavo_kernels)]
SOURCES = [path for package in PACKAGES for path in package.rglob("*.py")]


def post(server, body, path="/v1/chat/completions", **headers) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    return httpx.post(f"{server.url}{path}", content=content, headers=headers, timeout=PATIENCE, trust_env=False)


def is_fine(server) -> bool:
    return post(server, CHAT).status_code == 200


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_reads_a_format_that_runs_code(path):
    """Messages between processes and files of weights were read with pickle, which runs what it is given."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not UNSAFE & {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNSAFE
        elif isinstance(node, ast.Attribute):
            assert node.attr not in {"send_pyobj", "recv_pyobj"}
            if node.attr in {"load", "unsafe_load"}:
                module = ast.unparse(node.value)
                assert module not in {"torch", "yaml", "np", "numpy"}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl"])
def test_pickled_weights_are_refused(tmp_path, name):
    mark = tmp_path / "mark"
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch %b'\ntR." % str(mark).encode())
    with pytest.raises(ValueError, match="safetensors"):
        cpu_executor(EngineConfig(model=str(tmp_path), device="cpu", kv_cache_memory="1Mi"), locate(str(tmp_path)))
    assert not mark.exists()


def test_prompts_that_python_hashes_alike_share_no_block():
    """Python's hash() of numbers and tuples has known collisions, with which one tenant read another's cache."""
    one, other = [-1] * 16, [-2] * 16
    assert hash(tuple(one)) == hash(tuple(other))
    assert block_hash(root_hash(), one) != block_hash(root_hash(), other)
    pool = BlockPool(num_blocks=4)
    [block] = pool.allocate(1)
    pool.publish(block, block_hash(root_hash(), one))
    assert pool.find([block_hash(root_hash(), one)]) == [block]
    assert pool.find([block_hash(root_hash(), other)]) == []


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
@pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "presence_penalty", "repetition_penalty"])
def test_numbers_that_are_none(scripted, field, number):
    """They passed comparisons with bounds, and ended the engine."""
    body = json.dumps(CHAT).encode()[:-1] + b', "%b": %b}' % (field.encode(), number)
    answer = post(scripted, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in (field, None)


def test_a_number_of_many_digits_costs_nothing(scripted):
    """Reading an integer takes time with the square of its digits."""
    process = psutil.Process(scripted.process.pid)
    spent = sum(process.cpu_times()[:2])
    answer = post(scripted, json.dumps(CHAT).encode()[:-1] + b', "seed": ' + b"9" * 1_000_000 + b"}")
    assert answer.status_code == 400
    assert sum(process.cpu_times()[:2]) - spent < 10


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_compressed_body_is_not_unpacked(scripted, encoding):
    """A few kilobytes became gigabytes before anybody counted them."""
    zeros = b" " * 50_000_000
    packed = gzip.compress(zeros) if encoding == "gzip" else zlib.compress(zeros)
    answer = post(scripted, packed, **{"Content-Encoding": encoding})
    assert answer.status_code in (400, 415)
    assert is_fine(scripted)


def test_of_a_field_that_stands_twice_both_are_not_believed(scripted):
    """Two readers of one document, one of which checks: the last must be what is checked."""
    body = json.dumps(CHAT).encode()[:-1]
    assert post(scripted, body + b', "max_tokens": 5, "max_tokens": -1}').status_code == 400
    assert post(scripted, body + b', "max_tokens": -1, "max_tokens": 2}').json()["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file"])
def test_no_address_in_a_message_is_fetched(scripted, kind):
    """A server that loads a user's image sees what its user does not: metadata services, other tenants."""
    asked: list[tuple[str, int]] = []
    with socket.create_server(("127.0.0.1", 0)) as inner:
        inner.settimeout(1)

        def listen() -> None:
            try:
                asked.append(inner.accept()[1])
            except TimeoutError:
                return

        thread = threading.Thread(target=listen)
        thread.start()
        url = f"http://127.0.0.1:{inner.getsockname()[1]}/latest/meta-data"
        part = {"type": kind, kind: {"url": url, "data": url, "format": "wav", "file_data": url}}
        answer = post(scripted, {**CHAT, "messages": [{"role": "user", "content": [part]}]})
        thread.join()
    assert answer.status_code == 400
    assert not asked


FUNCTION = {"f": {"properties": {"a": {"type": "string"}}}}
LONG_CALLS = [
    "<tool_call>" * 20_000,
    '<tool_call>{"name": "f", "arguments": ' + "{" * 200_000,
    '{"name": "' * 20_000,
    "<" * 200_000,
    "[TOOL_CALLS][" * 15_000,
    '<tool_call>{"name": "f", "arguments": {"a": "' + '\\"' * 100_000,
]
OWN_LONG_CALLS = {
    "glm45": "<tool_call>f<arg_key>a</arg_key><arg_value>" + "</arg_" * 20_000,
    "qwen3_coder": "<tool_call><function=f>" + "<parameter=b>1" * 10_000,
    "minimax_m2": '<minimax:tool_call><invoke name="f">' + "<" * 100_000,
    "pythonic": "[f(a=" + "[(" * 50_000,
    "harmony": "<|channel|>analysis<|message|>" + "<|en" * 30_000,
}


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        *((name, text) for name, form in SYNTAXES.items() if form.written is form for text in LONG_CALLS),
        *OWN_LONG_CALLS.items(),
    ],
    ids=lambda given: given[:14],
)
def test_reading_calls_takes_no_more_than_the_text_is_long(syntax, text):
    """Regular expressions over a model's whole answer took hours; a bound that only such a thing misses."""
    began, parser = time.process_time(), parser_of(SYNTAXES[syntax], FUNCTION)
    events = [event for start in range(0, len(text), 7) for event in parser.add(text[start : start + 7])]
    events += parser.add("", finished=True)
    assert events
    assert all(event.text for event in events if isinstance(event, Content))
    assert time.process_time() - began < 30


def test_reading_reasoning_takes_no_more_than_the_text_is_long():
    began, splitter = time.process_time(), ReasoningSplitter(opened=True)
    text = "</thin" * 50_000
    split = [splitter.add(text[start : start + 5]) for start in range(0, len(text), 5)]
    split.append(splitter.add("", finished=True))
    assert "".join(one.reasoning for one in split) == text
    assert time.process_time() - began < 30


MILLION = b"[" + b"null," * 999_999 + b"1.5]"
LISTS = [
    ("/v1/completions", {"prompt": "hi"}, ["prompt", "stop", "stop_token_ids", "allowed_token_ids", "bad_words"]),
    ("/v1/chat/completions", {"messages": CHAT["messages"]}, ["messages", "tools", "documents"]),
    ("/v1/responses", {"input": "hi"}, ["input", "include", "tools", "stop"]),
    ("/v1/messages", {"messages": CHAT["messages"], "max_tokens": 3}, ["messages", "system", "tools"]),
    ("/v1/embeddings", {"input": "hi"}, ["input"]),
    ("/tokenize", {"prompt": "hi"}, ["messages", "tools"]),
    ("/detokenize", {}, ["tokens"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "field"), [(path, body, field) for path, body, all_ in LISTS for field in all_]
)
def test_a_list_of_a_million_mistakes_is_one_mistake(scripted, path, body, field):
    """Each was described apart, which took seconds, in which nobody was served, and most of a gigabyte."""
    process = psutil.Process(scripted.process.pid)
    spent = sum(process.cpu_times()[:2])
    body = json.dumps({"model": "smollm2", **{name: value for name, value in body.items() if name != field}}).encode()
    answer = post(scripted, body[:-1] + b', "%b": %b}' % (field.encode(), MILLION), path)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(field)
    assert len(answer.content) < 1000
    assert sum(process.cpu_times()[:2]) - spent < 1.5, "some 0.2 s, and 5 s with a million complaints"


def test_a_long_text_holds_nobody_up(scripted):
    """The event loop waited for the tokenizer, and with it all streams."""
    answers: list[httpx.Response] = []
    body = {"model": "smollm2", "input": "a " * 1_000_000, "truncate_prompt_tokens": 5}  # else it is refused before
    thread = threading.Thread(target=lambda: answers.append(post(scripted, body, "/v1/embeddings")))
    with httpx.Client(base_url=scripted.url, trust_env=False, timeout=PATIENCE) as http:
        thread.start()
        times = [time.monotonic()]
        while thread.is_alive():
            http.get("/health/live")
            times.append(time.monotonic())
    assert answers[0].json()["usage"]["prompt_tokens"] == 5
    longest = max(later - earlier for earlier, later in pairwise(times))
    assert longest < 0.4 * (times[-1] - times[0]), "a fiftieth of it, and four fifths where it was waited for"


HALF_CALLS = [
    r'{"name": "f", "arguments": {"a": "\ud800"}}',
    r'{"arguments": {"\udfff": "\ud800"}, "name": "f"}',
    r'{"arguments": "{\"a\": \"\ud800\"}", "name": "f"}',
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("call", HALF_CALLS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_a_model_that_writes_half_a_surrogate_pair_breaks_nothing(callers, path, call, stream):
    """JSON can spell characters that no answer can carry, and a user can make a model write them."""
    said = f"[say]<tool_call>{call}</tool_call>[/say]"
    messages, schema = [{"role": "user", "content": said}], {"type": "object"}
    body = {
        "/v1/chat/completions": {
            "messages": messages,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
        },
        "/v1/responses": {"input": said, "tools": [{"type": "function", "name": "f", "parameters": schema}]},
        "/v1/messages": {"messages": messages, "max_tokens": 100, "tools": [{"name": "f", "input_schema": schema}]},
    }[path]
    answer = post(callers, {"model": "smollm2", **body, "stream": stream}, path)
    assert answer.status_code == 200
    text = answer.content.decode()
    assert "internal error" not in text
    if path == "/v1/messages" and not stream:
        [used] = json.loads(text)["content"]
        assert used["input"] in ({"a": "?"}, {"?": "?"}), "here arguments are no text"
    elif not stream:
        assert r"\\ud800" in text, "as the model wrote it"


@pytest.fixture(scope="module")
def callers(scripted_servers):
    """A server whose model calls functions."""
    server = scripted_servers("--tool-call-parser", "hermes")
    server.wait_ready()
    return server


@pytest.mark.parametrize("value", [b'"\\ud800"', b"NaN", b"1e999"])
@pytest.mark.parametrize("stream", [b"false", b"true"])
def test_a_schema_that_no_answer_can_repeat_is_refused(scripted, value, stream):
    """The Responses API sends a request's schema back."""
    form = b'{"format": {"type": "json_schema", "name": "a", "schema": {"const": %b}}}' % value
    answer = post(
        scripted, b'{"model": "smollm2", "input": "hi", "stream": %b, "text": %b}' % (stream, form), "/v1/responses"
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "text.format.schema"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/detokenize"])
@pytest.mark.parametrize("token", [-1, 49152, 2**63, -(10**4000), 10**4000])
def test_tokens_that_do_not_exist_are_named_in_short(scripted, path, token):
    """They were looked up in the table of embeddings, behind its end."""
    body = {"/v1/completions": {"prompt": [5, token]}, "/v1/embeddings": {"input": [5, token]}}
    answer = post(scripted, body.get(path, {"tokens": [5, token]}) | {"model": "smollm2"}, path)
    assert answer.status_code == 400
    assert "token ids must be from 0 to 49151, got " in answer.json()["error"]["message"]
    assert len(answer.content) < 500


def test_a_templates_variable_is_text_and_no_template(scripted_models, model_with_template):
    """A request's own template ran outside of the sandbox, or what it set was rendered once more."""
    server = scripted_models(model_with_template("{{ messages[0].content }}|{{ greeting }}"))
    server.wait_ready()
    evil = "{{ ''.__class__.__mro__ }}{% for _ in range(99999) %}{% endfor %}"
    messages = [{"role": "user", "content": evil}]
    asked = {"messages": messages, "chat_template_kwargs": {"greeting": evil}}
    tokens = post(server, asked, "/tokenize").json()["tokens"]
    assert post(server, {"tokens": tokens}, "/detokenize").json()["prompt"] == f"{evil}|{evil}"
    model = httpx.get(f"{server.url}/v1/models", trust_env=False, timeout=PATIENCE).json()["data"][0]["id"]
    for own in ({"chat_template": "{{ 1 }}"}, {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}):
        answer = post(server, {"model": model, "messages": messages, **own})
        assert answer.status_code == 400
        assert "chat_template" in answer.json()["error"]["param"]


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"GET /\xff HTTP/1.1", 400), (b"GET /%ff%fe HTTP/1.1", 404), (b"GET http://[::1 HTTP/1.1", 400),
     (b"OPTIONS * HTTP/1.1", 404), (b"CONNECT a:1 HTTP/1.1", 400), (b"PRI * HTTP/2.0", 400),
     (b"GET /\x00 HTTP/1.1", 400),
     (b"GET /v1/models/%ED%A0%80 HTTP/1.1", 404), (b"GET /v1/models?a=%ff&%zz HTTP/1.1", 200),
     (b"POST /v1/completions HTTP/1.1\r\nContent-Type: \xff\xfe", 400),
     (b"GET /ui/app.js HTTP/1.1\r\nRange: bytes=" + b"0-1," * 10_000, 200)],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_odd_requests_have_plain_answers(scripted, line, status):
    """What a parser does not expect was a stack trace, or a hundred copies of a file in one answer."""
    host, port = scripted.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got = b"".join(iter(lambda: connection.recv(65536), b""))
    assert got.startswith(b"HTTP/1.1 %d " % status), got[:300]
    assert b"Traceback" not in got
    assert len(got) < 100_000
