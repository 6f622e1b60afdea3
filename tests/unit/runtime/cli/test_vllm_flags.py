"""vLLM's flags on the command line of `octavo serve`, and the page that lists them."""

import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

from octavo_runtime.cli.vllm_arguments import spelled
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.flags import flag
from octavo_runtime.config.options import BadOption, with_model_first
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.config.vllm_flags import ALIASES, FLAGS

PAGE = Path(__file__).parents[4] / "docs" / "vllm-flags.md"
OWN = {flag(name) for name in EngineConfig.model_fields | ServerConfig.model_fields}
WORDS = {"same": "the same", "renamed": "becomes", "needless": "needs nothing", "refused": "refused"}
OVERRIDES = (
    '{"architectures":["Qwen3ForSequenceClassification"],"classifier_from_token":["no","yes"],'
    '"is_original_qwen3_reranker":true}'
)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("m --served-model-name a b --port 1", "m --served-name a --served-name b --port 1"),
        ("--served-model-name a m", "--served-name a m"),
        ("--drain 300s --served-model-name a m", "--drain 300s --served-name a m"),
        ("m --served-model-name=a", "m --served-name a"),
        ("m --api-key x y", "m --api-key x --api-key y"),
        ("--api-key x m", "--api-key x m"),
        ("m --max_num_seqs 8 --max_model_len=16k", "m --max-num-seqs 8 --max-model-len 16000"),
        ("m --max-model-len 1.5K --max-num-batched-tokens 2k", "m --max-model-len 1536 --max-num-batched-tokens 2000"),
        ("m --max-model-len auto", "m"),
        (f"m --max-model-len {'9' * 400}k", f"m --max-model-len {'9' * 400}k"),
        (f"m --swap-space {'9' * 400}", f"m --swap-space {'9' * 400}"),
        ("m --max-model-len -1", "m"),
        ("m --max-num-seqs -1 --kv-cache-memory-bytes -1", "m --max-num-seqs -1 --kv-cache-memory -1"),
        ("m --swap-space 4", "m --swap-space 4096Mi"),
        ("m --swap-space 4Gi", "m --swap-space 4Gi"),
        ("m --kv-cache-memory-bytes 2G", "m --kv-cache-memory 2147483648"),
        ("m --dtype half", "m --dtype float16"),
        (
            "m --tool-call-parser llama3_json --reasoning-parser qwen3",
            "m --tool-call-parser llama3 --reasoning-parser think",
        ),
        ("m -tp 2 -pp 2", "m --tensor-parallel-size 2 --pipeline-parallel-size 2"),
        ("m --load-format safetensors", "m --load-format auto"),
        ("m --disable-log-requests --no-enable-log-requests", "m --no-log-prompts --no-log-prompts"),
        ("m --enable-log-requests", "m --log-prompts"),
        ("m --no-disable-log-stats", "m --log-stats"),
        (
            "m --enable-prefix-caching False --trust-remote-code=True",
            "m --no-enable-prefix-caching --trust-remote-code",
        ),
        ('m --allowed-origins ["a","b"]', "m --cors-origin a --cors-origin b"),
        ("m --ssl-keyfile k --ssl-certfile c", "m --tls-key k --tls-cert c"),
        ("--model m --port 1", "m --port 1"),
        ("--port=1 --model=m", "m --port 1"),
        ("m --log-format json --no-ui -- --x", "m --log-format json --no-ui -- --x"),
        ("m --frobnicate x", "m --frobnicate x"),
        ("m -q awq_marlin --kv-cache-dtype fp8_e4m3", "m --quantization awq --kv-cache-dtype fp8"),
        ("m --served-model-name", "m --served-name"),
        (f"m --hf-overrides {OVERRIDES}", "m --reranker qwen3"),
    ],
)
def test_vllms_spelling_becomes_ours(given, made):
    assert spelled(given.split()) == (made.split(), [])


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ("--enable-auto-tool-choice", "--enable-auto-tool-choice needs nothing here: tools are always read"),
        ("--enable-chunked-prefill=True", "--enable-chunked-prefill needs nothing here: long prompts run in chunks"),
        ("--enforce-eager", "--enforce-eager needs nothing here: nothing is compiled"),
        ("--no-enforce-eager", "--no-enforce-eager needs nothing here"),
        ("-O3", "--optimization-level 3 needs nothing here"),
        ("--tokenizer-mode fast", "--tokenizer-mode fast needs nothing here: the tokenizers library reads"),
        ("--calculate-kv-scales", "--calculate-kv-scales needs nothing here: scales that a checkpoint lacks are found"),
        ("--guided-decoding-backend xgrammar", "--guided-decoding-backend xgrammar needs nothing here: llguidance"),
    ],
)
def test_what_needs_nothing_is_said(given, note):
    words, [said] = spelled(["m", *given.split()])
    assert words == ["m"]
    assert said.startswith(note)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--enable-lora", "--enable-lora: is not taken here; adapters are not supported"),
        ("--revision main", "--revision: is not taken here; write it into the model"),
        ("--tokenizer-mode slow", "--tokenizer-mode: must be one of auto, hf, fast, got 'slow'"),
        (
            "--data-parallel-size 2",
            "--data-parallel-size: must be 1, got '2'; all GPUs of an engine serve one copy",
        ),
        ("--max-logprobs 40", "--max-logprobs: must be one of 0, 1, "),
        ("--no-enable-chunked-prefill", "--enable-chunked-prefill: cannot be turned off here; long prompts"),
        ("--enable-chunked-prefill False", "--enable-chunked-prefill: cannot be turned off here; long prompts"),
        ("--task", "--task: needs a value"),
        ('--hf-overrides {"rope_theta":1}', '--hf-overrides: must be {"architectures": ["Qwen3ForSequenceClas'),
    ],
)
def test_what_has_no_counterpart_is_refused_with_what_to_do(given, words):
    with pytest.raises(BadOption) as refusal:
        spelled(["m", *given.split()])
    assert str(refusal.value).startswith(words)


def octavo(*arguments):
    command = [sys.executable, "-m", "octavo_runtime", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def test_the_command_says_what_needs_nothing_and_goes_on():
    arguments = ["serve", "/nowhere", "--enable-auto-tool-choice", "--served-model-name", "a", "b", "--port", "0"]
    run = subprocess.run(
        [sys.executable, "-m", "octavo_runtime", *arguments], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    assert "--enable-auto-tool-choice needs nothing here: tools are always read" in run.stdout
    assert "for a, b" in run.stdout
    assert "/nowhere does not exist" in run.stderr


def test_the_command_refuses_in_one_line():
    run = subprocess.run(
        [sys.executable, "-m", "octavo_runtime", "serve", "m", "--enable-lora"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("octavo: --enable-lora: is not taken here")
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["m", "--gpu", "l4"], ["--model", "m", "--gpu", "l4"], ["--gpu", "l4", "--model=m"]]
)
def test_a_plan_takes_its_model_either_way(arguments):
    assert with_model_first(arguments) == ["m", "--gpu", "l4"]


def test_flags_lead_to_octavos_own():
    switches = {f"--no-{name.removeprefix('--')}" for name in OWN}
    assert {name for name, one in FLAGS.items() if one.kind == "same"} <= OWN
    assert {one.note for one in FLAGS.values() if one.kind == "renamed"} <= OWN | switches
    assert set(ALIASES.values()) <= FLAGS.keys()
    assert not {name for name, one in FLAGS.items() if one.kind != "same"} & OWN


def test_the_page_lists_every_flag():
    rows = [f"| `{name}` | {WORDS[one.kind]} | {_told(name)} |" for name, one in sorted(FLAGS.items())]
    listed = [line for line in PAGE.read_text().splitlines() if line.startswith("| `--")]
    assert listed == rows


def _told(name):
    one = FLAGS[name]
    if one.kind == "renamed":
        return f"`{one.note}`"
    values = " or ".join(f"`{value}`" for value in one.only) if len(one.only) < 10 else f"up to `{one.only[-1]}`"
    return f"{one.note} ({values} only)" if one.only else one.note
