"""`octavo bench offline` and `latency`: the requests stay those that other engines were measured with, and the rows
stand beside a peer's."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import SHAPES, save

from octavo_runtime.bench import kernels, latency, serve
from octavo_runtime.bench.jobs import Job
from octavo_runtime.bench.offline_requests import equal_lengths, shared_prefix, sharegpt, workload
from octavo_runtime.bench.rows import find_peer
from octavo_runtime.cli.app import main
from octavo_runtime.config.options import BadOption


def digest(jobs: list[Job]) -> str:
    listed = json.dumps([[job.prompt, job.output_len] for job in jobs])
    return hashlib.sha256(listed.encode()).hexdigest()[:16]


def test_token_ids_are_those_that_the_peers_ran():
    assert digest(sharegpt()) == "4f28c1f00008646a"
    assert digest(workload("1024x128")) == "30f75ee3c565db68"
    assert digest(shared_prefix()) == "0b8fbe0d6b47ccbe"
    assert digest(equal_lengths(8, 512, 1, seed=520)) == "a4c3d62567c4e170"
    assert len(workload("sharegpt:7")) == 7


@pytest.mark.parametrize("name", ["", "share", "0x4", "4x", "sharegpt:0", "sharegpt:x"])
def test_other_workloads_are_refused(name):
    with pytest.raises(BadOption, match="workloads: "):
        workload(name)


@pytest.mark.parametrize("device", ["NVIDIA H100 80GB HBM3", "NVIDIA H200"])
def test_peers_are_saved_for_both_cards(device):
    peer = find_peer("auto", device)
    assert peer is not None
    assert {"sharegpt", "1024x128", "prefix", "1@128", "256@512", "8@16384"} <= peer.rows.keys()
    assert find_peer("none", device) is None
    assert find_peer("auto", "a CPU") is None


def test_attention_has_peers_of_its_own():
    peer = find_peer("auto", "NVIDIA H200", kind="attention")
    assert peer is not None
    ours = {f"decode {batch} x {context}" for batch, context in kernels.DECODES}
    ours |= {f"prefill {batch} x {new} of {context}" for batch, new, context in kernels.PREFILLS}
    assert ours == peer.rows.keys()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_kernels_are_measured_on_a_gpu_alone():
    with pytest.raises(BadOption, match="needs a CUDA GPU"):
        kernels.run("llama-3.1-8b", ",".join(kernels.PARTS), "auto", None, as_json=True)


def test_other_parts_are_refused():
    with pytest.raises(BadOption, match="parts: must be some of products,prompts,experts,decodes,prefills, got 'x'"):
        kernels.run("llama-3.1-8b", "experts,x", "auto", None, as_json=True)


@pytest.mark.gpu
def test_kernels_are_measured(tmp_path):
    """In a process of its own: what it leaves on the GPU is not to be counted by tests of memory."""
    options = ["--model", "llama-3.1-8b", "--peers", "none", "--save", str(tmp_path / "saved.json"), "--json"]
    command = [sys.executable, "-m", "octavo_runtime", "bench", "kernels", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    products = (5 + 4 * len(kernels.NARROW | kernels.BLOCKS)) * len(kernels.ROWS)
    rounded = [kind for kind in kernels.ROUNDED if torch.cuda.get_device_capability() >= (8, 9) or "fp8" not in kind]
    products += 4 * (1 + len(rounded)) * len(kernels.PROMPT_ROWS)
    assert len(rows) == 1 + products + len(kernels.DECODES) + len(kernels.PREFILLS)
    assert all(row[figure] > 0 for row in rows for figure in row.keys() - {"name"})
    assert find_peer(str(tmp_path / "saved.json"), "any").rows.keys() == {row["name"] for row in rows}


def test_what_is_no_peer_table_is_refused(tmp_path):
    (tmp_path / "bad.json").write_text('{"rows": 3}')
    for path in (tmp_path / "bad.json", tmp_path / "missing.json"):
        with pytest.raises(BadOption, match="peers: "):
            find_peer(str(path), "a CPU")


Bench = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def bench(capsys, monkeypatch) -> Bench:
    """Runs `octavo bench` with words; its rows."""

    def run(*words: str) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["octavo", "bench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
        rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
        return rows

    return run


@pytest.mark.slow
def test_a_run_stands_beside_one_that_was_saved(tmp_path, bench):
    save(SHAPES["3 heads of 64, tied"], tmp_path / "model")
    table, options = tmp_path / "before.json", ["--model", str(tmp_path / "model"), "--max-model-len", "256"]
    options += ["--dtype", "float32", "--kv-cache-memory", "16Mi", "--max-num-seqs", "8", "--json"]
    [before] = bench("offline", "--workloads", "8x4:3", *options, "--peers", "none", "--save", str(table))
    [after] = bench("offline", "--workloads", "8x4:3", *options, "--peers", str(table))
    assert before["out_tok_s"] == pytest.approx(12 / before["seconds"])
    assert after["peer"] == pytest.approx(before["out_tok_s"])
    assert after["ratio"] == pytest.approx(after["out_tok_s"] / before["out_tok_s"])
    [row] = bench("latency", "--points", "2@8", *options)
    assert row["name"] == "2@8"
    assert row["ttft_ms"] > 0
    assert row["itl_ms"] > 0
    assert 0 < row["step_ms"] < row["ttft_ms"] + 129 * row["itl_ms"]


@pytest.mark.slow
def test_figures_that_cannot_be_saved_are_shown_beside_a_peer_that_has_none(tmp_path, capsys, monkeypatch):
    save(SHAPES["3 heads of 64, tied"], tmp_path / "model")
    table, options = tmp_path / "peer.json", ["--model", str(tmp_path / "model"), "--max-model-len", "256", "--json"]
    rows = {"8x4:3": {"out_tok_s": 0.0}}
    table.write_text(json.dumps({"engine": "E", "device": "a CPU", "date": "2026-01-01", "rows": rows}))
    options += ["--kv-cache-memory", "16Mi", "--max-num-seqs", "8", "--peers", str(table), "--save", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["octavo", "bench", "offline", "--workloads", "8x4:3", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert "octavo: save: must be a file that can be written, got " in shown.err
    [row] = json.loads(shown.out)["rows"]
    assert (row["name"], "ratio" in row) == ("8x4:3", False)


@pytest.mark.slow
def test_the_same_requests_over_http(bench):
    options = ["--model", "HuggingFaceTB/SmolLM2-135M", "--max-model-len", "64", "--kv-cache-memory", "100Mi"]
    at_once, spread = bench("serve", "--workloads", "16x4:3", "--rates", "0,50", *options, "--json")
    assert (at_once["name"], spread["name"]) == ("16x4:3", "16x4:3@50/s")
    for row in (at_once, spread):
        assert row["out_tok_s"] == pytest.approx(12 / row["seconds"])
        assert 0 < row["ttft_p50_ms"] <= row["ttft_p99_ms"]
        assert row["itl_p50_ms"] > 0


@pytest.mark.parametrize("rates", ["", "x", "-1", "10001", "nan"])
def test_other_rates_are_refused(rates):
    with pytest.raises(BadOption, match="rates: must be numbers from 0"):
        serve.run("builtin://smollm2", "auto", {"max_model_len": 64}, "16x4:3", rates, "none", None, as_json=True)


def test_requests_longer_than_what_is_served_are_refused():
    with pytest.raises(BadOption, match="max_model_len: must be at least 65 for these requests, got 64"):
        serve.run("builtin://smollm2", "auto", {"max_model_len": 64}, "60x5:3", "0", "none", None, as_json=True)


@pytest.mark.parametrize(
    ("weights", "allowed"), [("int3", "auto, int4, int8, fp8, w8a8"), ("int4", "auto, int8 or fp8")]
)
def test_other_weights_are_refused(weights, allowed):
    with pytest.raises(BadOption, match=f"weights: must be (one of )?{allowed}.*got '{weights}'"):
        latency.run("builtin://smollm2", weights, {}, "1@8", "none", None, None, as_json=True)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["int4", "int8", "w8a8"])
def test_a_known_shape_in_fewer_bits(bench, weights):
    options = ["--model", "HuggingFaceTB/SmolLM2-135M", "--max-model-len", "256", "--kv-cache-memory", "100Mi"]
    [row] = bench("latency", "--points", "1@8", "--weights", weights, *options, "--json")
    assert row["itl_ms"] > 0
