"""Start, disconnects, drain, and the engine's death, as clients and Kubernetes see them."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
from event_reader import read
from patience import PATIENCE, eventually

pytestmark = pytest.mark.slow

MODEL = "builtin://smollm2"
SLOW = {"model": "smollm2", "prompt": "[slow]", "max_tokens": 150, "stream": True}


def client(server, **options) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False, **options)


class Stream(threading.Thread):
    """Reads a stream in the background, once its first event is there."""

    def __init__(self, server, body: dict = SLOW) -> None:
        super().__init__(daemon=True)
        self.server, self.body, self.events = server, body, []
        self.begun = threading.Event()
        self.start()
        assert self.begun.wait(PATIENCE)

    def run(self) -> None:
        with client(self.server) as http, http.stream("POST", "/v1/completions", json=self.body) as response:
            for event in read(response.iter_lines()):
                self.events.append(event.data)
                self.begun.set()


def test_sse_format(scripted):
    with client(scripted) as http, http.stream(
        "POST", "/v1/chat/completions",
        json={"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "stream": True},
    ) as response:  # fmt: skip
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-length" not in response.headers
        got = [event.data for event in read(response.iter_lines())]
    assert got[-1] == "[DONE]"
    assert all(event["object"] == "chat.completion.chunk" for event in got[:-1])
    first = got[0]["choices"][0]
    assert (first["index"], first["delta"]) == (0, {"role": "assistant", "content": ""})
    assert {name: first[name] for name in first.keys() - {"index", "delta"}} == dict.fromkeys(
        ("logprobs", "finish_reason", "stop_reason", "token_ids")
    )


def test_tokens_stream_as_they_come(scripted):
    """The first ten are here long before the last of 1500 is made."""
    with (
        client(scripted) as http,
        http.stream("POST", "/v1/completions", json={**SLOW, "max_tokens": 1500}) as response,
    ):
        events = read(response.iter_lines())
        for _ in range(10):
            assert next(events).data["object"] == "text_completion"
            assert scripted.metric("octavo_requests_running") == 1
    eventually(lambda: scripted.metric("octavo_requests_running") == 0)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("prompt", ["[slow]", ["[slow]", "[slow]", "[slow]"]])
def test_a_client_that_goes_away_frees_its_requests(server, stream, prompt):
    aborted = server.metric("octavo_requests_total", status="aborted")
    body = {**SLOW, "prompt": prompt, "stream": stream, "max_tokens": 1500, "ignore_eos": True}
    with socket.create_connection(server.url.removeprefix("http://").split(":")) as connection:
        content = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + content)
        eventually(lambda: server.metric("octavo_requests_running") > 0)
        assert server.metric("octavo_kv_cache_usage_ratio") > 0
    eventually(lambda: server.metric("octavo_requests_running") == 0)
    eventually(lambda: server.metric("octavo_kv_cache_usage_ratio") == 0)
    count = 1 if isinstance(prompt, str) else 3
    assert server.metric("octavo_requests_total", status="aborted") == aborted + count


@pytest.mark.parametrize(
    ("kind", "status", "code", "outcome"),
    [
        ("invalid", 400, None, "rejected"),
        ("overloaded", 429, "overloaded", "error"),
        ("queue_timeout", 503, "queue_timeout", "error"),
        ("deadline", 504, "deadline_exceeded", "error"),
    ],
)
def test_an_error_before_the_first_token_is_an_http_status(scripted, kind, status, code, outcome):
    for stream in (True, False):
        before = scripted.metric("octavo_requests_total", status=outcome)
        with client(scripted) as http:
            response = http.post("/v1/completions", json={**SLOW, "prompt": f"[refuse {kind}]", "stream": stream})
        assert response.status_code == status
        assert response.json()["error"]["code"] == code
        assert ("Retry-After" in response.headers) == (status in (429, 503))
        assert scripted.metric("octavo_requests_total", status=outcome) == before + 1


def test_an_error_after_the_first_token_is_an_event(scripted):
    failed = scripted.metric("octavo_requests_total", status="error")
    with (
        client(scripted) as http,
        http.stream("POST", "/v1/completions", json={**SLOW, "prompt": "[error deadline]"}) as response,
    ):
        assert response.status_code == 200
        got = [event.data for event in read(response.iter_lines())]
    assert got[-1]["error"] == {
        "message": "timeout: the request did not end within its time limit",
        "type": "server_error",
        "param": None,
        "code": "deadline_exceeded",
    }
    assert scripted.metric("octavo_requests_total", status="error") == failed + 1


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"guided_json": {}}, "guided_json"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_a_bad_schema_is_named_by_the_field_that_the_client_sent(scripted, asked, field):
    with client(scripted) as http:
        response = http.post("/v1/completions", json={"model": "smollm2", "prompt": "[refuse invalid]", **asked})
    assert response.json()["error"]["param"] == field
    assert response.json()["error"]["message"] == f"{field} does not compile: so it says"


def test_an_answer_that_meets_a_stop_string_is_aborted_alone(scripted):
    before = scripted.metric("octavo_request_success_total", finished_reason="stop")
    with client(scripted) as http:
        body = {"model": "smollm2", "prompt": "a", "n": 3, "max_tokens": 100, "stop": [" Paris"]}
        done = http.post("/v1/completions", json=body).json()
    assert [choice["text"] for choice in done["choices"]] == ["The capital of France is"] * 3
    assert [choice["stop_reason"] for choice in done["choices"]] == [" Paris"] * 3
    assert scripted.metric("octavo_request_success_total", finished_reason="stop") == before + 3
    assert scripted.metric("octavo_requests_running") == 0


def test_metrics_of_a_request(scripted):
    names = (
        "octavo_prompt_tokens_total",
        "octavo_generation_tokens_total",
        "octavo_time_to_first_token_seconds_count",
        "octavo_inter_token_latency_seconds_count",
        "octavo_request_duration_seconds_count",
    )
    before = [scripted.metric(name, model_name="smollm2") for name in names]
    succeeded = scripted.metric("octavo_request_success_total", finished_reason="length")
    with client(scripted) as http:
        used = http.post("/v1/completions", json={**SLOW, "max_tokens": 7, "stream": False}).json()["usage"]
    after = [scripted.metric(name, model_name="smollm2") for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [used["prompt_tokens"], 7, 1, 6, 1]
    assert scripted.metric("octavo_request_success_total", finished_reason="length") == succeeded + 1
    assert scripted.metric("octavo_model_load_seconds") == 0.1


def test_loading_is_live_and_not_ready(start_scripted):
    server = start_scripted("--seed", "14")
    with client(server) as http:
        assert http.get("/health/live").status_code == 200
        ready = http.get("/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "loading"})
        assert http.get("/v1/models").json()["data"][0]["id"] == "smollm2"
        answer = http.post("/v1/completions", json=SLOW)
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "the model is loading"
        assert int(answer.headers["Retry-After"]) > 0
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0


def test_ready_means_that_a_completion_came_through_the_engine(start_scripted):
    """Here the engine has started, and answers nothing."""
    server = start_scripted("--seed", "15")
    with client(server) as http:
        eventually(lambda: 'phase="engine"' in http.get("/metrics").text, "the engine has started")
        for path in ("/health/ready", "/health"):
            ready = http.get(path)
            assert (ready.status_code, ready.json()) == (503, {"status": "loading"})
        assert http.get("/health/live").status_code == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0


def test_a_first_completion_that_fails_is_one_line_and_exit_code_1(start_scripted):
    process = start_scripted("--seed", "16").process
    assert process.wait(PATIENCE) == 1
    assert process.stderr.read() == "octavo: timeout: the request did not end within its time limit\n"


def test_sigterm_lets_running_streams_finish(start_scripted):
    server = start_scripted("--drain", "20s")
    server.wait_ready()
    stream = Stream(server)
    server.process.send_signal(signal.SIGTERM)
    with client(server) as http:
        eventually(lambda: http.get("/health/ready").status_code == 503)
        assert http.get("/health/live").status_code == 200
        refused = http.post("/v1/completions", json=SLOW)
        assert refused.status_code == 503
        assert refused.headers["connection"] == "close"
    stream.join(PATIENCE)
    assert stream.events[-1] == "[DONE]"
    assert len(stream.events) > 100
    assert server.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_requests_a_signal_ends_at_once(start_scripted, number):
    server = start_scripted("--drain", "300s")
    server.wait_ready()
    server.process.send_signal(number)
    assert server.process.wait(PATIENCE) == 0
    assert server.process.stderr.read() == ""


@pytest.mark.parametrize("how", ["drain over", "second signal"])
def test_streams_beyond_the_drain_time_end_with_an_error_event(start_scripted, how):
    server = start_scripted("--drain", "500ms" if how == "drain over" else "300s")
    server.wait_ready()
    stream = Stream(server, {**SLOW, "max_tokens": 1500})
    server.process.send_signal(signal.SIGTERM)
    if how == "second signal":
        with client(server) as http:
            eventually(lambda: http.get("/health/ready").status_code == 503, "the first signal was heard")
        server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0
    stream.join(PATIENCE)
    if how == "drain over":
        assert stream.events[-1]["error"]["message"] == "the server is shutting down"


def test_the_engines_death_ends_streams_and_the_process(start_scripted):
    server = start_scripted()
    server.wait_ready()
    stream = Stream(server, {**SLOW, "max_tokens": 1500})
    with client(server) as http:
        dying = http.post("/v1/completions", json={**SLOW, "prompt": "[die]", "stream": False})
    assert dying.status_code == 500
    stream.join(PATIENCE)
    assert stream.events[-1]["error"]["message"] == "the script says that the engine died"
    assert server.process.wait(PATIENCE) == 1
    assert server.process.stderr.read() == "octavo: the script says that the engine died\n"


def test_a_hung_engine_turns_liveness_red(start_scripted):
    server = start_scripted()
    server.wait_ready()
    with client(server) as http:
        http.post("/v1/completions", json={**SLOW, "prompt": "[hang]", "stream": False, "max_tokens": 1})
        live = http.get("/health/live")
        assert (live.status_code, live.json()) == (503, {"status": "the engine has not answered for 9 s"})
        assert http.get("/health/ready").status_code == 503
        assert http.post("/v1/completions", json=SLOW).status_code == 503
        assert http.get("/debug/blocks").status_code == 503


def test_a_hung_engine_ends_what_waits_for_it(start_scripted):
    server = start_scripted()
    server.wait_ready()
    stream = Stream(server, {**SLOW, "max_tokens": 1500})
    with client(server) as http:
        last = http.post("/v1/completions", json={**SLOW, "prompt": "[hang]", "stream": False, "max_tokens": 1})
        stream.join(PATIENCE)
        assert stream.events[-1]["error"] == {
            "message": "the engine has not answered for 9 s",
            "type": "server_error",
            "param": None,
            "code": "engine_error",
        }
        ended = 1 if last.is_success else 2  # it may still be under way when the engine is seen to hang
        eventually(lambda: server.metric("octavo_requests_total", status="error") == ended)
        assert server.metric("octavo_requests_total", status="aborted") == 0
    assert server.process.poll() is None, "Kubernetes decides, by liveness"


def test_json_logs_hold_the_last_words_too(start_scripted):
    server = start_scripted("--log-format", "json", "--seed", "13")
    assert server.process.wait(PATIENCE) == 1
    line = json.loads(server.process.stderr.read())
    assert (line["level"], line["message"]) == ("critical", "the script says that the engine cannot start")


def test_an_engine_that_cannot_start_is_one_line_and_exit_code_1(start_scripted):
    process = start_scripted("--seed", "13").process
    assert process.wait(PATIENCE) == 1
    assert process.stderr.read() == "octavo: the script says that the engine cannot start\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["builtin://gpt5"], 2, "no builtin model 'gpt5'; there is: smollm2"),
        (["/no/such/model"], 2, "/no/such/model does not exist"),
        ([MODEL, "--tokenizer", "/no/such/tokenizer"], 2, "/no/such/tokenizer does not exist"),
        ([MODEL, "--chat-template", "/no/such/template"], 2, "chat_template: must be a file or a Jinja template"),
        ([MODEL, "--chat-template", "{{ messages | nothing }}"], 2, "chat template is not valid Jinja"),
        ([MODEL, "--host", "256.0.0.1"], 1, "cannot listen on 256.0.0.1 port 0"),
        ([MODEL, "--port", "70000"], 2, "70000"),
        ([MODEL, "--drain", "soon"], 2, "soon"),
        ([MODEL, "--max-body", "0"], 2, "max_body: must be at least 1 byte, got '0'"),
    ],
)
def test_what_the_user_can_mend_is_one_line(scripted_command, arguments, code, words):
    command = [*scripted_command, *arguments]
    port = [] if "--port" in command else ["--port", "0"]
    done = subprocess.run([*command, *port], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


ENDS_AS_IT_BEGINS = """
import os, signal, sys
from octavo_runtime.cli.app import main
from octavo_runtime.server import serve

how, create = sys.argv.pop(), serve.create_app

def create_app(*arguments):
    assert os.listdir(os.environ["TMPDIR"]), "the engine client's folder"
    if how == "signal":
        os.kill(os.getpid(), signal.SIGTERM)
        return create(*arguments)
    raise ValueError("nothing to serve")

serve.create_app = create_app
main()
"""


@pytest.mark.parametrize(("how", "code"), [("signal", 0), ("refusal", 2)])
def test_a_start_that_ends_as_it_begins_leaves_no_folder(tmp_path, how, code):
    done = subprocess.run(
        [sys.executable, "-c", ENDS_AS_IT_BEGINS, "serve", MODEL, "--port", "0", how],
        env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert ("octavo: nothing to serve" in done.stderr) == (how == "refusal")
    assert list(tmp_path.iterdir()) == []


def test_a_chat_template_in_the_place_of_the_models(start_scripted):
    server = start_scripted("--chat-template", "{% for m in messages %}{{ m.content }}{% endfor %}")
    server.wait_ready()
    with client(server) as http:
        conversation = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello there"}]}
        written = http.post("/tokenize", json=conversation).json()["tokens"]
        assert written == http.post("/tokenize", json={"model": "smollm2", "prompt": "Hello there"}).json()["tokens"]


def test_served_names(start_scripted):
    server = start_scripted("--served-name", "chat", "--served-name", "org/chat")
    server.wait_ready()
    with client(server) as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["chat", "org/chat"]
        assert http.get("/v1/models/org/chat").json()["id"] == "org/chat"
        answer = http.post("/v1/completions", json={"model": "org/chat", "prompt": "a", "max_tokens": 1})
        assert answer.json()["model"] == "org/chat"
        refused = http.post("/v1/completions", json={"model": "builtin://smollm2", "prompt": "a", "max_tokens": 1})
        assert refused.status_code == 404, "who gives names means these alone"
    assert server.metric("octavo_requests_running", model_name="chat") == 0


def test_a_model_answers_to_what_the_server_was_told(start_scripted):
    server = start_scripted()
    server.wait_ready()
    with client(server) as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["smollm2"]
        assert http.get("/v1/models/builtin://smollm2").json()["id"] == "builtin://smollm2"
        for path, asked in (("completions", {"prompt": "a"}), ("embeddings", {"input": "a"})):
            answer = http.post(f"/v1/{path}", json={"model": "builtin://smollm2", **asked})
            assert answer.json()["model"] == "builtin://smollm2", answer.text


def test_a_command_line_for_vllm(start_scripted):
    """Its spelling of flags, and sampling defaults in every kind of request that leaves them out."""
    defaults = '{"max_new_tokens": 3}'
    server = start_scripted("--served-model-name", "chat", "org/chat", "--override-generation-config", defaults)
    server.wait_ready()
    question = {"model": "org/chat", "messages": [{"role": "user", "content": "a"}]}
    with client(server) as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["chat", "org/chat"]
        chat = http.post("/v1/chat/completions", json=question).json()
        assert chat["usage"]["completion_tokens"] == 3
        asked = http.post("/v1/chat/completions", json={**question, "max_tokens": 5}).json()
        assert asked["usage"]["completion_tokens"] == 5
        text = http.post("/v1/completions", json={"model": "chat", "prompt": "a"}).json()
        assert text["usage"]["completion_tokens"] == 3
        response = http.post("/v1/responses", json={"model": "chat", "input": "a"}).json()
        assert response["usage"]["output_tokens"] == 3


def test_the_block_map_is_for_people_and_no_part_of_the_api(scripted):
    with client(scripted) as http:
        assert http.get("/debug/blocks").json() == {
            "type": "blocks",
            "block_size": 16,
            "references": [2, 1, 0, 0],
            "cached": [True, False, True, False],
            "filled": [16, 4, 16, 0],
            "tables": {"a/0": [0, 1], "a/1": [0]},
        }
        assert "/debug/blocks" not in http.get("/openapi.json").json()["paths"]
    command = [sys.executable, "-m", "octavo_runtime", "debug", "blocks", scripted.url]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    shown = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment
    ).stdout
    assert shown.startswith("4 blocks of 16 tokens: 2 used, 1 cached, 1 free\n")


def test_version(scripted):
    with client(scripted) as http:
        assert set(http.get("/version").json()) == {"version"}
