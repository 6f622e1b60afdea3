"""`octavo top` against servers, with a pipe and with a terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
import pytest
from patience import PATIENCE, eventually

pytestmark = pytest.mark.slow

KEY = "sk-0123456789abcdef"
TOP = [sys.executable, "-m", "octavo_runtime", "top"]


def environment() -> dict[str, str]:
    return {**os.environ, "NO_PROXY": "127.0.0.1", "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}


def once(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*TOP, url, "--once", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment())


def test_one_view_of_a_server_at_work(scripted):
    body = {"model": "smollm2", "prompt": "[slow]", "max_tokens": 2000, "stream": True}
    with (
        httpx.Client(base_url=scripted.url, trust_env=False, timeout=PATIENCE) as http,
        http.stream("POST", "/v1/completions", json=body) as one,
        http.stream("POST", "/v1/completions", json=body) as other,
    ):
        answers = one.iter_lines(), other.iter_lines()  # without a reference to them the responses would end
        for answer in answers:
            next(answer)
        done = once(f"{scripted.url}/v1", "--interval", "0.3")
    eventually(lambda: scripted.metric("octavo_requests_running") == 0)
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line[:14].strip(): line[14:].split() for line in done.stdout.splitlines()}
    assert done.stdout.startswith("smollm2  ready  http://127.0.0.1:")
    assert lines["running"][-1] == "2"
    assert lines["KV blocks"][-4:] == ["2", "of", "10", "20.0%"]
    assert 0 < float(lines["generated"][-2]) < 200, "two answers of a token every 20 ms"
    assert lines["between tokens"][1] == "ms"
    assert float(lines["anonymous"][-1]) > 0


def test_no_server_is_one_line():
    done = once("http://127.0.0.1:9")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("octavo: http://127.0.0.1:9 does not answer: ")
    assert once("http://a", "--interval", "0").returncode == 2


class Terminal:
    """`octavo top` in a terminal of 100 columns."""

    def __init__(self, *arguments: str, before: Callable[[], object] | None = None) -> None:
        self.master, slave = pty.openpty()
        command = [*TOP, *arguments]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment(), preexec_fn=before
        )
        os.close(slave)
        self.text = ""

    def wait_for(self, words: str) -> None:
        """Until `words` are written from now on."""
        self.text, end = "", time.monotonic() + PATIENCE
        while words not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.text):
            assert time.monotonic() < end, self.text
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_it_goes_on_without_the_server_and_ends_by_ctrl_c(start_scripted):
    server = start_scripted()
    server.wait_ready()
    terminal = Terminal(server.url, "--interval", "0.2")
    try:
        terminal.wait_for("KV blocks")
        terminal.wait_for("KV blocks")
        server.process.kill()
        terminal.wait_for(f"{server.url} does not answer")
        terminal.wait_for("trying on, Ctrl-C ends")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(PATIENCE) == 0
        while select.select([terminal.master], [], [], 0.2)[0]:
            try:
                terminal.text += os.read(terminal.master, 65536).decode(errors="replace")
            except OSError:
                break
        assert "Traceback" not in terminal.text
        assert "\x1b[?1049l" in terminal.text, "the screen of before is back"
        assert "\x1b[?25h" in terminal.text, "the cursor is back"
    finally:
        terminal.close()


def test_ctrl_c_ends_it_where_the_shell_had_it_ignored(scripted):
    terminal = Terminal(scripted.url, before=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    try:
        terminal.wait_for("KV blocks")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(PATIENCE) == 0
    finally:
        terminal.close()


def test_a_server_that_asks_for_a_key(start_scripted):
    server = start_scripted("--api-key", KEY, "--guard-metrics")
    server.wait_ready()
    done = once(server.url)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--api-key" in done.stderr
    assert once(server.url, "--api-key", KEY, "--interval", "0.2").returncode == 0
