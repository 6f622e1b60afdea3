"""`octavo bench compare`: its workloads, its turns, and what it says of peers that are not here."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from children import children
from patience import PATIENCE, eventually

from octavo_runtime.bench import compare, llama_cpp
from octavo_runtime.bench.compare import Engine
from octavo_runtime.bench.workloads import equal, mixed
from octavo_runtime.config.options import BadOption
from octavo_runtime.models.loading.files import locate


def test_the_mixed_workload_is_the_one_that_its_figures_were_measured_on():
    jobs = mixed().jobs
    assert len(jobs) == 64
    assert sum(len(job.prompt) for job in jobs) == 9835
    assert mixed().output_tokens == 9491
    assert mixed() == mixed()


def test_a_single_request_is_told_by_its_tokens_after_the_first():
    one = equal("one", 1, 64, 129)
    whole, first = compare._timed(one)
    assert whole == one.jobs
    assert [job.output_len for job in first] == [1]
    assert compare._speed(one, [[5.0, 2.0], [4.0, 2.5]]) == pytest.approx(128 / 2)


def test_many_requests_are_told_by_all_their_tokens():
    many = equal("many", 16, 64, 64)
    assert compare._timed(many) == [many.jobs]
    assert compare._speed(many, [[4.0], [2.0]]) == pytest.approx(16 * 64 / 2)


def test_engines_take_turns_at_each_workload_of_a_round():
    sent = []

    def sender(name):
        def send(jobs):
            sent.append((name, len(jobs), jobs[0].output_len))
            return 1.0 if jobs[0].output_len == 1 else 2.0

        return send

    workloads = [equal("one", 1, 4, 9), equal("two", 2, 4, 4), mixed()]
    first = mixed().jobs[0].output_len
    engines = [
        Engine("a", "all", sender("a")),
        Engine("b", "missing"),
        Engine("c", "equal lengths", sender("c"), takes_mixed=False),
    ]
    rows = compare._in_turns(engines, workloads, rounds=2)
    turn = [("a", 1, 9), ("a", 1, 1), ("c", 1, 9), ("c", 1, 1), ("a", 2, 4), ("c", 2, 4), ("a", 64, first)]
    assert sent == [("a", 2, 8), ("c", 2, 8), *turn, *turn]
    assert [row.speeds for row in rows] == [(8.0, 4.0, 9491 / 2), (None, None, None), (8.0, 4.0, None)]


@pytest.mark.parametrize(("isa", "option"), [("native", ""), ("avx2", " --isa avx2")])
def test_a_missing_peer_is_named_with_what_brings_it(monkeypatch, tmp_path, isa, option):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with compare._llama_cpp(locate("builtin://smollm2"), isa) as engine:
        assert engine.send is None
        assert engine.note.startswith(f"missing: octavo bench compare{option} --build-llama-cpp")


def test_each_kind_of_instructions_has_a_server_of_its_own():
    assert llama_cpp.server_binary("native") != llama_cpp.server_binary("avx2")


def test_avx2_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(BadOption, match="isa: must be native on aarch64, got avx2"):
        compare.run("builtin://smollm2", isa="avx2")


_ALONE = """
from contextlib import nullcontext
from octavo_runtime.bench import compare
from octavo_runtime.cli.app import main
compare._octavo = lambda *_: nullcontext(compare.Engine("octavo", "left out"))
main()
"""


def test_a_bench_that_is_told_to_end_leaves_no_server(tmp_path):
    """The server is a stand-in that never answers."""
    binary = tmp_path / "octavo" / f"llama-cpp-{llama_cpp.VERSION}" / "llama-server"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\nwhile :; do sleep 0.1; done\n")
    binary.chmod(0o755)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", _ALONE, "bench", "compare", "--no-transformers"]
    with subprocess.Popen(command, env=environment) as bench:
        stand_ins: list[psutil.Process] = []
        try:
            eventually(lambda: children(str(binary), bench.pid) or bench.poll() is not None, "the server's start")
            stand_ins = children(str(binary), bench.pid)
            bench.terminate()
            assert bench.wait(PATIENCE) == 128 + signal.SIGTERM
            assert [each.is_running() for each in stand_ins] == [False]
        finally:
            bench.kill()
            for each in filter(psutil.Process.is_running, stand_ins):
                each.kill()


def test_building_llama_cpp_needs_cmake(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadOption, match="pip install cmake"):
        llama_cpp.build("native")


def test_a_server_that_does_not_start_is_one_line(tmp_path):
    binary = tmp_path / "llama-server"
    binary.write_text("#!/bin/sh\necho no such model\nexit 1\n")
    binary.chmod(0o755)
    with (
        pytest.raises(BadOption, match="llama-server did not start: no such model"),
        llama_cpp.serving(binary, tmp_path / "absent.gguf", slots=1, tokens_per_slot=16, threads=1),
    ):
        pass


def test_a_model_that_the_peers_cannot_read_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadOption, match="model: must be a GGUF file"):
        compare.run(str(tmp_path))
