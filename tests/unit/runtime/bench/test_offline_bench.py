"""`octavo bench offline` and `latency`: the requests stay those that other engines were measured with, and the rows
stand beside a peer's."""

import hashlib
import json
import sys

import pytest
from small_models import SHAPES, save

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


def test_what_is_no_peer_table_is_refused(tmp_path):
    (tmp_path / "bad.json").write_text('{"rows": 3}')
    for path in (tmp_path / "bad.json", tmp_path / "missing.json"):
        with pytest.raises(BadOption, match="peers: "):
            find_peer(str(path), "a CPU")


@pytest.mark.slow
def test_a_run_stands_beside_one_that_was_saved(tmp_path, capsys, monkeypatch):
    def bench(*words: str) -> list[dict]:
        monkeypatch.setattr(sys, "argv", ["octavo", "bench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
        rows: list[dict] = json.loads(capsys.readouterr().out)["rows"]
        return rows

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
