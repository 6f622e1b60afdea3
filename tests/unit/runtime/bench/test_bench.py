"""`octavo bench` on a tiny random model: what its figures must satisfy whatever the speed."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM

from octavo_kernels import native
from octavo_runtime.bench import (
    batching,
    chunked_prefill,
    concurrency,
    kv_cache,
    memory,
    prefix,
    scheduler,
    speculation,
    startup,
)
from octavo_runtime.bench.drive import configure, drive, open_engine
from octavo_runtime.bench.jobs import Job, lognormal_lengths, poisson_arrivals
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.report import picture_path, publish
from octavo_runtime.cli.app import main
from octavo_runtime.config.options import BadOption

pytestmark = pytest.mark.slow

VOCABULARY = 300
CONFIG = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    eos_token_id=299,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a random two-layer Llama and a tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    llama = LlamaForCausalLM(CONFIG).float()
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    llama.save_pretrained(folder)
    pieces = [*sorted(ByteLevel.alphabet()), *(f"piece{index}" for index in range(256, VOCABULARY))]
    tokenizer = Tokenizer(BPE({piece: index for index, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(), ByteLevelDecoder()
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


@pytest.fixture(scope="module")
def engine(model):
    return open_engine(
        configure(model, dtype="float32", max_num_seqs=3, kv_cache_memory="4Mi", enable_prefix_caching=False)
    )


def jobs(output_lens, arrivals=None):
    generator = np.random.default_rng(3)
    return [
        Job([int(token) for token in generator.integers(0, VOCABULARY, 6)], length, arrival)
        for length, arrival in zip(output_lens, arrivals or [0.0] * len(output_lens), strict=True)
    ]


def check_picture(report, path, capsys):
    """Publishes a report as JSON and as a table, and returns the JSON."""
    publish(report, path, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["finding"] == report.finding
    assert told["machine"]
    publish(report, path, as_json=False)
    assert report.finding in capsys.readouterr().out
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width == 1440
        assert 700 <= picture.height <= 1200
        darkest, lightest = picture.convert("L").getextrema()
        assert (darkest < 60, lightest) == (True, 255)
    return told


def test_static_batches_never_overlap_and_continuous_ones_fill_free_rows(engine):
    work = jobs([2, 9, 4, 7, 3, 5, 6])
    static = drive(engine, work, batch_size=3)
    for start in range(3, len(work), 3):
        former_ends = max(static.finished[:start])
        assert all(admitted >= former_ends for admitted in static.admitted[start : start + 3])
    continuous = drive(engine, work)
    assert continuous.token_ids == static.token_ids
    assert [len(tokens) for tokens in static.token_ids] == [job.output_len for job in work]
    assert len(continuous.steps) < len(static.steps)
    for trace in (static, continuous):
        assert max(step.rows for step in trace.steps) == 3
        assert trace.output_tokens == sum(job.output_len for job in work)
        assert all(first <= last for first, last in zip(trace.first_token, trace.finished, strict=True))
        one = batching.outcome(work, trace, rows=3)
        assert 0 < one.utilisation <= 1
        assert one.latency_p50 <= one.latency_p99 <= one.seconds


def test_jobs_are_not_given_to_the_engine_before_they_arrive(engine):
    work = jobs([2, 2, 2], arrivals=[0.0, 0.05, 0.1])
    trace = drive(engine, work)
    assert all(admitted >= job.arrival for admitted, job in zip(trace.admitted, work, strict=True))


def test_a_job_longer_than_the_engine_serves_is_refused(engine):
    with pytest.raises(BadOption, match="at most 256 together, got 306"):
        drive(engine, jobs([300]))


def test_memory(model, tmp_path, capsys):
    report = memory.run(model, "float32", "16,32,64,16", 64, 2, 8, 0)
    told = check_picture(report, tmp_path / "memory.png", capsys)
    assert told["kv_cache_slots"] == 128
    for mix in told["mixes"]:
        set_aside, paged = mix["preallocated"], mix["paged"]
        assert set_aside["peak"] == 2 < paged["peak"]
        for moment in set_aside["moments"]:
            assert moment["held"] == 64 * moment["sequences"]
        for moment in paged["moments"]:
            assert 0 <= moment["held"] - moment["filled"] < 16 * max(1, moment["sequences"])
        for moment in set_aside["moments"] + paged["moments"]:
            assert moment["filled"] <= moment["held"] <= moment["total"] == 128
        assert 0 < paged["waste"] < set_aside["waste"] < 1
    # The first two sequences' prompts are 14 and 28 tokens; room for 64 is kept for each.
    first = told["mixes"][0]["preallocated"]["moments"][0]
    assert (first["held"], first["filled"]) == (128, 14 + 28)


def test_batching(model, tmp_path, capsys):
    report = batching.run(model, "float32", 6, 2, 4, 0.0, 0)
    told = check_picture(report, tmp_path / "batching.png", capsys)
    assert told["static"]["output_tokens"] == told["continuous"]["output_tokens"] == sum(told["output_lengths"])
    assert "throughput" in told["finding"]


def test_scheduler(model, tmp_path, capsys):
    report = scheduler.run(model, 3, "0,40", "4,8", 5, 0)
    told = check_picture(report, tmp_path / "scheduler.png", capsys)
    assert [queue["waiting"] for queue in told["queues"]] == [0, 40]
    assert [batch["prompts"] for batch in told["offline"]] == [4, 8]
    times = [queue[name] for queue in told["queues"] for name in ("step", "first_step", "first_step_shared")]
    assert min(*times, *(batch["prompt"] for batch in told["offline"])) > 0
    with pytest.raises(BadOption, match="waiting: must be from 0 to 1,000,000, got -1"):
        scheduler.run(model, 3, "-1", "4", 5, 0)


def test_batching_with_arrivals_over_time(model):
    report = batching.run(model, "float32", 4, 2, 2, 100.0, 0)
    assert report.figures["arrivals_per_second"] == 100.0
    assert "sooner" in report.finding


def test_prefix_cache_finds_the_shared_blocks_and_changes_no_token(model, tmp_path, capsys):
    requests, shared, own = 4, 40, 5
    report = prefix.run(model, "float32", requests, shared, own, 3, 0)
    told = check_picture(report, tmp_path / "prefix.png", capsys)
    assert told["with_cache"]["token_ids"] == told["without_cache"]["token_ids"]
    assert told["without_cache"]["hit_rate"] == 0
    whole_blocks = shared // 16 * 16
    assert told["with_cache"]["hit_rate"] == pytest.approx(whole_blocks * (requests - 1) / ((shared + own) * requests))
    assert len(told["with_cache"]["ttft"]) == requests


def test_kv_cache_changes_no_token(model, tmp_path, capsys):
    report = kv_cache.run(model, "float32", 5, 20, 0)
    told = check_picture(report, tmp_path / "kv-cache.png", capsys)
    assert told["equal_tokens"] == told["output_tokens"] == 20
    for outcome in (told["with_cache"], told["without_cache"]):
        assert len(outcome["token_seconds"]) == len(outcome["token_ids"]) == 20


def test_chunked_prefill_gives_every_running_answer_a_token_in_each_step(model):
    report = chunked_prefill.run(model, "float32", 200, 3, "16,64", 0)
    small, middle, whole = report.figures["budgets"]
    assert [small["budget"], middle["budget"], whole["budget"]] == [16, 64, 203]
    # 200 tokens by 13 and 61 a step, beside three decodes, and at once
    steps = [
        sum(0 < moment <= one["time_to_first_token"] for moment in one["moments"]) for one in (small, middle, whole)
    ]
    assert steps == [16, 4, 1]
    assert all(0 < one["gap_p99"] <= one["longest_gap"] for one in (small, middle, whole))
    assert "200-token prompt" in report.finding


def test_concurrency_over_http(model, tmp_path, capsys):
    report = concurrency.run(model, "float32", "2,1", 1, 2, True, 0)
    told = check_picture(report, tmp_path / "concurrency.png", capsys)
    assert [level["clients"] for level in told["levels"]] == [1, 2]
    assert [level["requests"] for level in told["levels"]] == [8, 8]
    for level in [*told["levels"], told["transformers"]]:
        assert 0 < level["latency_p50"] <= level["latency_p99"]
    assert told["setting"].endswith("float32")


@pytest.mark.slow
def test_speculation_counts_what_guesses_save(capsys):
    speculation.run("builtin://smollm2", "float32", 4, 4, 2, 40, as_json=True)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert len(rows) == 3
    for row in rows.values():
        assert row["without, tok/s"] > 0 < row["out_tok_s"]
        assert 1 <= row["tokens a step"] <= 5
    quoted = rows["a text that is quoted"]
    assert quoted["tokens a step"] > 1.5
    assert quoted["right, %"] > 50


def test_speculation_with_bounds_that_cross_is_refused():
    with pytest.raises(BadOption, match=r"prompt_lookup_min: must be at most prompt_lookup_max \(2\), got 3"):
        speculation.run("builtin://smollm2", "float32", 4, 2, 3, 40, as_json=True)


def test_startup_times_a_server_from_its_process_to_its_first_token(model, capsys, monkeypatch, tmp_path):
    """Where nothing is kept the loops are compiled anew: here by a compiler that copies those that there are."""
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {native._library(native.level())._name} "$last"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    startup.run(model, 2, {"tensor_parallel_size": 1}, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["rows"]] == ["empty cache", "filled cache"]
    for row in told["rows"]:
        assert 0 < row["phase engine"] < row["phase total"] < row["ready"] < row["first token"]


def test_answers_longer_than_the_server_gives_are_refused_in_its_words(model):
    with pytest.raises(BadOption, match="max_tokens"):
        concurrency.run(model, "float32", "1", 1, 4096, False, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chunked-prefill", "--budgets", "64,x"], "budgets: must be whole numbers such as 64,256, got '64,x'"),
        (["chunked-prefill", "--budgets", "8"], "budgets: must be from 16 to the prompt's 4096 tokens, got 8"),
        (["memory", "--lengths", "512,x"], "lengths: must be whole numbers from 2 to max_model_len (2048), got 'x'"),
        (["memory", "--lengths", "512,4096"], "got '4096'"),
        (["memory", "--sequences", "0"], "sequences: must be from 1 to 4096, got 0"),
        (["batching", "--rate", "nan"], "rate: must be from 0 to 10000, got nan"),
        (["batching", "--dtype", "int3"], "dtype"),
        (["prefix", "--model", "builtin://absent"], "absent"),
        (["kv-cache", "--out", "picture.jpg"], "out: must be a folder or a file that ends in .png, got 'picture.jpg'"),
        (["kv-cache", "--out", "/dev/null/folder"], "out: must be a place that can be written"),
        (["concurrency", "--clients", "1,0"], "clients: must be whole numbers from 1 to 256, got '0'"),
        (["concurrency", "--clients", "1", "--dtype", "int3"], "dtype"),
    ],
)
def test_bad_values_end_in_one_line_and_exit_code_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["octavo", "bench", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
    told = capsys.readouterr()
    assert leaving.value.code == 2
    assert told.err.count("\n") == 1
    assert words in told.err
    assert told.out == ""
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(sys, "argv", ["octavo", "bench", "kv-cache"])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2
    assert "pip install 'octavo[bench]'" in capsys.readouterr().err


def test_where_the_picture_goes(tmp_path):
    assert picture_path(str(tmp_path), "prefix") == tmp_path / "octavo-bench-prefix.png"
    assert (
        picture_path(str(tmp_path / "new" / "deep"), "prefix") == tmp_path / "new" / "deep" / "octavo-bench-prefix.png"
    )
    assert picture_path(str(tmp_path / "other" / "mine.png"), "prefix") == tmp_path / "other" / "mine.png"


def test_a_gpu_is_named_as_it_is():
    assert machine("NVIDIA H100 80GB HBM3") == "NVIDIA H100 80GB HBM3"
    assert machine("cpu").endswith("CPUs")


@given(st.integers(0, 2**63 - 1), st.integers(1, 50), st.integers(1, 4096))
def test_lognormal_lengths_stay_in_bounds(seed, count, most):
    lengths = lognormal_lengths(np.random.default_rng(seed), count, most / 5, most)
    assert len(lengths) == count
    assert all(1 <= length <= most for length in lengths)


@given(st.integers(0, 2**63 - 1), st.integers(1, 50), st.floats(0.01, 1e4))
def test_poisson_arrivals_come_in_order(seed, count, rate):
    arrivals = poisson_arrivals(np.random.default_rng(seed), count, rate)
    assert arrivals == sorted(arrivals)
    assert arrivals[0] > 0
    assert poisson_arrivals(np.random.default_rng(seed), count, 0) == [0.0] * count


def test_frontend_measures_every_stream():
    from octavo_runtime.bench import frontend

    report = frontend.run("builtin://smollm2", streams=4, tokens=20, rate=1000, workers=1)
    figures = report.figures
    assert len(figures["tokens_per_second"]) == 3
    assert all(speed > 0 for speed in figures["tokens_per_second"].values())
    assert figures["tokens_per_event"]["bare ASGI with msgspec"] == 1
    assert 0 < figures["added_latency_p50"] <= figures["added_latency_p99"]
    assert 0 < figures["first_byte_p50"] <= figures["first_byte_p99"]
    report.draw("context").savefig("/dev/null", format="png")
