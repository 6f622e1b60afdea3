"""`octavo bench compare`: its workloads, and what it says of peers that are not here."""

import pytest

from octavo_runtime.bench import compare, llama_cpp
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
    whole, again, first, first_again = compare._timed(one)
    assert whole == again == one.jobs
    assert [job.output_len for job in first] == [job.output_len for job in first_again] == [1]
    assert compare._speed(one, [5.0, 4.0, 2.5, 2.0]) == pytest.approx(128 / 2)


def test_many_requests_are_told_by_all_their_tokens():
    many = equal("many", 16, 64, 64)
    assert len(compare._timed(many)) == 2
    assert compare._speed(many, [4.0, 2.0]) == pytest.approx(16 * 64 / 2)


def test_a_missing_peer_is_named_with_what_brings_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    row = compare._llama_cpp(locate("builtin://smollm2"), [mixed()])
    assert row.speeds == (None,)
    assert row.note.startswith("missing: octavo bench compare --build-llama-cpp")


def test_building_llama_cpp_needs_cmake(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadOption, match="pip install cmake"):
        llama_cpp.build()


def test_a_server_that_does_not_start_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    binary = llama_cpp.server_binary()
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\necho no such model\nexit 1\n")
    binary.chmod(0o755)
    with (
        pytest.raises(BadOption, match="llama-server did not start: no such model"),
        llama_cpp.serving(tmp_path / "absent.gguf", slots=1, tokens_per_slot=16, threads=1),
    ):
        pass


def test_a_model_that_the_peers_cannot_read_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadOption, match="model: must be a GGUF file"):
        compare.run(str(tmp_path), build_llama_cpp=False)
