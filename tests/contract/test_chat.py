"""`octavo chat` with a pipe for a terminal."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from patience import PATIENCE

from octavo_runtime.models.loading.files import locate
from octavo_runtime.text.tokenizer_conversion import tokenizer_folder


def talk(lines: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "octavo_runtime", "chat", *arguments]
    return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_plain_text_from_a_server(scripted, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    done = talk("What is the capital?\n/reset\n\nAnd again?\n/exit\nnever asked\n", "--base-url", f"{scripted.url}/v1")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.startswith("The capital of France is Paris.")


@pytest.mark.parametrize("end", ["", "/", "/v1/"])
@pytest.mark.parametrize("model", [(), ("smollm2",)])
def test_a_servers_address_does_without_v1(scripted, monkeypatch, end, model):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    done = talk("What is the capital?\n", *model, "--base-url", f"{scripted.url}{end}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("The capital of France is Paris.")


def test_an_address_where_no_api_is_says_how_one_ends(scripted, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    done = talk("hi\n", "--base-url", f"{scripted.url}/elsewhere")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "HTTP 404" in done.stderr
    assert "which ends in /v1 on most servers" in done.stderr


def test_the_server_sees_the_whole_conversation(scripted, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    counts = [scripted.metric("octavo_prompt_tokens_total")]
    for lines in ("One\n", "One\nTwo\n"):
        talk(lines, "--base-url", f"{scripted.url}/v1")
        counts.append(scripted.metric("octavo_prompt_tokens_total"))
    once, twice = counts[1] - counts[0], counts[2] - counts[1]
    assert twice > 2 * once + 20, "the second prompt holds the first question and its answer"


def test_what_the_terminals_encoding_has_not_does_not_end_the_conversation(monkeypatch):
    piece = json.dumps({"choices": [{"index": 0, "delta": {"content": "\N{GRINNING FACE} Paris"}}]})

    class Emoji(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(f"data: {piece}\n\ndata: [DONE]\n\n".encode())

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with HTTPServer(("127.0.0.1", 0), Emoji) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            done = talk("One\nTwo\n", "m", "--base-url", f"http://127.0.0.1:{server.server_port}/v1")
        finally:
            server.shutdown()
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "? Paris\n? Paris\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--base-url"),
        (["builtin://gpt5"], 2, "there is: smollm2"),
        (["--base-url", "http://127.0.0.1:9/v1"], 1, "http://127.0.0.1:9/v1 cannot be reached"),
        (["--base-url", "127.0.0.1:9/v1"], 2, "like http://localhost:8000/v1, got '127.0.0.1:9/v1'"),
        (
            ["--base-url", "http://[::1/v1"],
            2,
            "--base-url: must be like http://localhost:8000/v1, got 'http://[::1/v1'",
        ),
        (["--base-url", "http://127.0.0.1:9/v1", "--api-key", "kéy"], 2, "api_key: must be printable ASCII"),
        (["--base-url", "http://⒈com/v1"], 2, "got 'http://⒈com/v1'"),
    ],
)
def test_failures_are_one_line(arguments, code, words, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    done = talk("hi\n", *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_that_the_engine_refuses_is_bad_input(tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tokenizer_folder(locate("builtin://smollm2")) / name).read_bytes())
    (tmp_path / "config.json").write_text('{"architectures": ["GPT9"]}')
    done = talk("hi\n", str(tmp_path))
    assert done.returncode == 2
    assert "architecture must be one of" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_server_that_asks_for_a_key(start_scripted, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    key = "a-key-of-more-than-enough-letters"
    server = start_scripted("--api-key", key)
    server.wait_ready()
    refused = talk("hi\n", "--base-url", f"{server.url}/v1")
    assert (refused.returncode, refused.stdout.strip()) == (1, "")
    assert "HTTP 401" in refused.stderr
    assert "--api-key" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert talk("hi\n", "--base-url", f"{server.url}/v1", "--api-key", key).stdout.startswith("The capital")
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert talk("hi\n", "--base-url", f"{server.url}/v1").stdout.startswith("The capital")


def test_a_refused_message_leaves_the_conversation(scripted, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    done = talk(f"{'a ' * 3000}\nAnd now?\n", "--base-url", f"{scripted.url}/v1")
    assert done.returncode == 0
    assert "2047" in done.stderr
    assert done.stdout.strip().startswith("The capital")


def test_a_closed_pipe_ends_the_conversation():
    command = [sys.executable, "-m", "octavo_runtime", "chat", "builtin://smollm2"]
    talking = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    talking.stdin.write(b"Count to a hundred.\nAgain.\n")
    talking.stdin.close()
    talking.stdout.read(1)
    talking.stdout.close()
    assert talking.wait(PATIENCE) == 1
    assert talking.stderr.read() == b""


def test_a_model_loaded_here_answers():
    done = talk("What is the capital of France? One word.\n", "builtin://smollm2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
