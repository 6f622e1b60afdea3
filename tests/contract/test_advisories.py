"""Classes of vulnerability that advisories about servers like this one tell of, each with what shows that it is not
here. Some are shown where their part is tested:

- code in a chat template, templates without end: tests/runtime/test_chat_template.py
- `auto_map`, code that comes with a model: tests/runtime/test_remote_code.py
- timing of keys: test_api_keys.py; tenants that share a cache: test_sampling.py
- heads, nesting, lists, numbers without bound, slow clients, path traversal: test_bounds.py
- requests smuggled by a proxy in front: test_nginx.py, and by two readings of one request: test_bounds.py
- schemas and expressions that do not compile, tokens that do not exist: test_bad_requests.py
- forged log lines: test_logs.py; markup in the page: test_ui.py
"""

import ast
import gzip
import json
import socket
import threading
import time
import zlib
from pathlib import Path

import httpx
import pytest

import octavo_kernels
import octavo_operator
import octavo_runtime
from octavo_runtime.block_pool import BlockPool
from octavo_runtime.config import EngineConfig
from octavo_runtime.executor.cpu import CpuExecutor
from octavo_runtime.model.files import locate
from octavo_runtime.prefix_hash import block_hash, root_hash
from octavo_runtime.server.reasoning import ReasoningSplitter
from octavo_runtime.server.tools.call_parser import CallParser, Content
from octavo_runtime.server.tools.syntax import SYNTAXES

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
    return httpx.post(f"{server.url}{path}", content=content, headers=headers, timeout=30, trust_env=False)


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
            text = ast.unparse(node)
            assert text not in {"torch.load", "yaml.load", "yaml.unsafe_load", "np.load", "numpy.load"}
            assert node.attr not in {"send_pyobj", "recv_pyobj"}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl"])
def test_pickled_weights_are_refused(tmp_path, name):
    mark = tmp_path / "mark"
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch %b'\ntR." % str(mark).encode())
    with pytest.raises(ValueError, match="safetensors"):
        CpuExecutor(EngineConfig(model=str(tmp_path), device="cpu", kv_cache_memory="1Mi"), locate(str(tmp_path)))
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
    began = time.monotonic()
    answer = post(scripted, json.dumps(CHAT).encode()[:-1] + b', "seed": ' + b"9" * 1_000_000 + b"}")
    assert answer.status_code == 400
    assert time.monotonic() - began < 10


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


@pytest.mark.parametrize(
    "text",
    ["<tool_call>" * 20_000, '<tool_call>{"name": "f", "arguments": ' + "{" * 200_000, '{"name": "' * 20_000,
     "<" * 200_000, "[TOOL_CALLS][" * 15_000, '<tool_call>{"name": "f", "arguments": {"a": "' + '\\"' * 100_000],
    ids=lambda text: text[:14],
)  # fmt: skip
@pytest.mark.parametrize("syntax", SYNTAXES, ids=str)
def test_reading_calls_takes_no_more_than_the_text_is_long(syntax, text):
    """Regular expressions over a model's whole answer took hours; a bound that only such a thing misses."""
    began, parser = time.monotonic(), CallParser(SYNTAXES[syntax], ["f"])
    events = [event for start in range(0, len(text), 7) for event in parser.add(text[start : start + 7])]
    events += parser.add("", finished=True)
    assert events
    assert all(event.text for event in events if isinstance(event, Content))
    assert time.monotonic() - began < 30


def test_reading_reasoning_takes_no_more_than_the_text_is_long():
    began, splitter = time.monotonic(), ReasoningSplitter(opened=True)
    text = "</thin" * 50_000
    split = [splitter.add(text[start : start + 5]) for start in range(0, len(text), 5)]
    split.append(splitter.add("", finished=True))
    assert "".join(one.reasoning for one in split) == text
    assert time.monotonic() - began < 30
