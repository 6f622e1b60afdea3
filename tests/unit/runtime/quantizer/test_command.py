"""`octavo quantize` from a folder to a folder."""

import hashlib
import json
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import make_engine, random_prompts, run
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast, Qwen2MoeConfig

from octavo_kernels.experts import GroupedExperts
from octavo_runtime.cli.app import main
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.quantization.configuration import scheme_of
from octavo_runtime.quantizer import run as running
from octavo_runtime.quantizer.layer import quantize_layer
from octavo_runtime.quantizer.output import OutputFolder

FAST = ["--samples", "6", "--sample-tokens", "48"]
METHODS = {
    "awq": ["--group-size", "32"],
    "gptq": ["--group-size", "32"],
    "gptq, by size": ["--group-size", "32", "--act-order"],
    "gptq, 8 bits": ["--bits", "8", "--group-size", "-1"],
    "fp8": [],
    "fp8, blocks": ["--fp8-scales", "block"],
    "int8": [],
    "squeezellm": ["--outliers", "0.01"],
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SERVED = {"cpu": "float32", "cuda": "bfloat16"}  # on a GPU as it is stored
SHAPE = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 256,
    "bos_token_id": 256,
    "initializer_range": 0.12,
}
# Of the next token's scores, of 300, what a method may change: 4 bits of a random model lose much.
DIVERGENCE = {"awq": 0.05, "gptq": 0.05, "gptq, by size": 0.05, "squeezellm": 0.05}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(LlamaConfig(**SHAPE), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a layer that has no experts, and one MLP beside the others' that all tokens go through."""
    of_experts = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
    config = Qwen2MoeConfig(**SHAPE, **of_experts, shared_expert_intermediate_size=64, mlp_only_layers=[1])
    return written(config, tmp_path_factory.mktemp("mixture"))


def written(config: PreTrainedConfig, folder: Path) -> Path:
    """A random model that reads bytes."""
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<end>"])
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 7))) for _ in range(40)]
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text(" ".join(draw.choices(words, k=4000)))
    return file


def with_number(model: Path, out: Path, name: str, number: float) -> None:
    """The model with another number at the end of a tensor."""
    shutil.copytree(model, out)
    tensors = load_file(out / "model.safetensors")
    tensors[name].view(-1)[-1] = number
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def octavo(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["octavo", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def quantize(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    return octavo(monkeypatch, "quantize", *arguments)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def options_of(name: str, out: Path, text: Path, device: str) -> list[object]:
    method = "--method", name.partition(",")[0]
    return [*method, "--out", out, "--calibration", text, *FAST, *METHODS[name], "--device", device]


def divergence_of(told: str) -> float:
    """The report's KL divergence of the next token."""
    return float(next(line for line in told.splitlines() if line.startswith("KL")).split()[-1])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", METHODS)
def test_what_is_written_is_served_and_close_to_the_model(
    name: str,
    device: str,
    model: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    out = tmp_path / "out"
    assert quantize(monkeypatch, model, *options_of(name, out, text, device)) == 0
    told = capsys.readouterr()
    assert "layer 3 of 3: error " in told.err
    assert "perplexity of" in told.out
    assert told.out.splitlines()[-1] == str(out)
    assert divergence_of(told.out) < DIVERGENCE.get(name, 0.015)
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    assert size < sum(path.stat().st_size for path in model.glob("*.safetensors"))
    assert {path.name for path in out.iterdir()} >= {"tokenizer.json", "tokenizer_config.json", "config.json"}
    prompts = random_prompts(5, 33)
    params = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)
    answers = run(make_engine(out, device=device, dtype=SERVED[device]), prompts, params)
    assert all(sum(len(output.token_ids) for output in answer) == 6 for answer in answers)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("name", "stored", "kept"),
    [
        ("fp8", ("weight", 1), torch.Tensor),
        ("fp8, blocks", ("weight", 1), torch.Tensor),
        ("int8", ("weight", 1), GroupedExperts),
        ("awq", ("qweight", 4), GroupedExperts),
        ("gptq", ("qweight", 4), GroupedExperts),
        ("gptq, by size", ("qweight", 4), torch.Tensor),
        ("gptq, 8 bits", ("qweight", 4), GroupedExperts),
    ],
)
def test_experts_are_quantised_too(
    name: str,
    stored: tuple[str, int],
    kept: type,
    device: str,
    mixture: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    out = tmp_path / "out"
    assert quantize(monkeypatch, mixture, *options_of(name, out, text, device)) == 0
    told = capsys.readouterr().out
    assert divergence_of(told) < DIVERGENCE.get(name, 0.015)
    # Of 288 tokens two of four experts each, in two layers.
    assert ("experts calibrated by others' tokens too, fewer than 256 chose them" in told) == (stored[0] == "qweight")
    tensors = load_file(out / "model-00001-of-00004.safetensors")
    at, (part, size) = "model.layers.0.mlp.", stored
    assert tensors[f"{at}experts.3.down_proj.{part}"].itemsize == size
    assert tensors[f"{at}shared_expert.up_proj.{part}"].itemsize == size
    assert tensors[f"{at}gate.weight"].dtype == tensors[f"{at}shared_expert_gate.weight"].dtype == torch.bfloat16
    config = json.loads((out / "config.json").read_text())["quantization_config"]
    scheme = scheme_of(config)
    assert scheme.covers(f"{at}experts.3.gate_proj")
    assert scheme.covers("model.layers.1.mlp.gate_proj")
    assert not scheme.covers(f"{at}gate")
    assert not scheme.covers(f"{at}shared_expert_gate")
    loaded = load_model(EngineConfig(model=str(out)), locate(str(out)), torch.device("cpu"), torch.bfloat16)
    assert isinstance(loaded.stack.layers[0].mlp.gate_up, kept), "in few bits where the loader keeps them so"
    params = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)
    [answer] = run(make_engine(out, device=device, dtype=SERVED[device]), random_prompts(33), params)
    assert sum(len(output.token_ids) for output in answer) == 6


def test_routers_are_left_out_by_the_names_that_others_read(
    mixture: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = [f"model.layers.{layer}.mlp.{gate}" for layer in (0, 2) for gate in ("gate", "shared_expert_gate")]
    kept = {}
    for name in ("awq", "gptq", "fp8", "fp8, blocks"):
        assert quantize(monkeypatch, mixture, *options_of(name, tmp_path / name, text, "cpu")) == 0
        kept[name] = json.loads((tmp_path / name / "config.json").read_text())["quantization_config"]
    assert kept["awq"]["modules_to_not_convert"] == gates
    assert kept["fp8, blocks"]["modules_to_not_convert"] == kept["fp8"]["ignore"] == ["lm_head", *gates]
    assert [re.match(r"-:\^(.*)\$", name)[1].replace("\\", "") for name in kept["gptq"]["dynamic"]] == gates  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "device", "source"),
    [
        ("gptq", "cpu", "model"),
        ("awq", "cpu", "mixture"),
        *(pytest.param(name, "cuda", "model", marks=pytest.mark.gpu) for name in ("gptq", "awq", "squeezellm")),
        *(pytest.param(name, "cuda", "mixture", marks=pytest.mark.gpu) for name in ("gptq", "awq")),
    ],
)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    name: str,
    device: str,
    source: str,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    model = request.getfixturevalue(source)
    options = ["--method", name, *METHODS[name], "--calibration", text, *FAST, "--device", device]
    assert quantize(monkeypatch, model, *options, "--out", tmp_path / "whole") == 0
    report = capsys.readouterr().out.splitlines()[:-1]
    made: list[int] = []

    def killed(tensors: Any, inputs: Any, spec: Any, index: int, recipe: Any) -> Any:
        if index == 2:
            raise KeyboardInterrupt
        made.append(index)
        return quantize_layer(tensors, inputs, spec, index, recipe)

    with monkeypatch.context() as patch:
        patch.setattr(running, "quantize_layer", killed)
        assert quantize(monkeypatch, model, *options, "--out", tmp_path / "cut") == 130
    assert not (tmp_path / "cut" / "config.json").exists(), "no model yet"
    assert quantize(monkeypatch, model, *options, "--samples", 7, "--out", tmp_path / "cut") == 2
    assert "has unfinished work with samples 6, asked for is 7" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(running, "VERSION", 1)
        assert quantize(monkeypatch, model, *options, "--out", tmp_path / "cut") == 2
    assert f"with quantizer version {running.VERSION}, asked for is 1" in capsys.readouterr().err
    layer = tmp_path / "cut" / "model-00002-of-00004.safetensors"
    whole = layer.read_bytes()
    layer.write_bytes(whole[:500])
    assert quantize(monkeypatch, model, *options, "--out", tmp_path / "cut") == 2
    assert f"out: {layer} is damaged, delete it and run this again" in capsys.readouterr().err
    layer.write_bytes(whole)
    assert quantize(monkeypatch, model, *options, "--out", tmp_path / "cut") == 0
    told = capsys.readouterr()
    assert "layer 2 of 3: written already" in told.err
    assert told.out.splitlines()[:-1] == report
    assert made == [0, 1]
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_a_run_that_is_killed_at_its_very_end_has_told_its_report(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """What is closed cannot be taken up again: there would be no report."""
    close = OutputFolder.close_work

    def killed(folder: OutputFolder) -> None:
        close(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(OutputFolder, "close_work", killed)
    assert quantize(monkeypatch, model, *options_of("int8", tmp_path / "out", text, "cpu")) == 130
    assert divergence_of(capsys.readouterr().out) < 0.015


def test_the_layouts_are_those_of_published_checkpoints(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, types and shapes of the tensors of a projection of 64 inputs and 128 outputs."""
    expected = {
        "awq": {"qweight": ("int32", 64, 16), "qzeros": ("int32", 2, 16), "scales": ("float16", 2, 128)},
        "gptq": {
            "qweight": ("int32", 8, 128), "qzeros": ("int32", 2, 16), "scales": ("float16", 2, 128),
            "g_idx": ("int32", 64),
        },
        "fp8": {"weight": ("float8_e4m3fn", 128, 64), "weight_scale": ("float32", 128, 1)},
        "int8": {"weight": ("int8", 128, 64), "weight_scale": ("float32", 128, 1)},
    }  # fmt: skip
    for method, parts in expected.items():
        sized = ["--group-size", "32"] if method in ("awq", "gptq") else []
        options = ["--method", method, "--out", tmp_path / method, "--calibration", text, *FAST, *sized]
        assert quantize(monkeypatch, model, *options) == 0
        tensors = load_file(tmp_path / method / "model-00001-of-00004.safetensors")
        at = "model.layers.0.mlp.up_proj."
        found = {
            name.removeprefix(at): (str(tensor.dtype).removeprefix("torch."), *tensor.shape)
            for name, tensor in tensors.items()
            if name.startswith(at)
        }
        assert found == parts
        config = json.loads((tmp_path / method / "config.json").read_text())
        assert config["quantization_config"]["quant_method"] in (method, "compressed-tensors")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "awq5"], "method: must be one of awq, gptq, fp8, int8, squeezellm, got 'awq5'"),
        (["--method", "awq", "--bits", "8"], "bits: must be 4 for method awq, got 8"),
        (["--method", "fp8", "--group-size", "32"], "group-size: must be left out for method fp8"),
        (["--method", "int8", "--act-order"], "act-order: must be left out for method int8; it is of gptq"),
        (["--method", "awq"], "group-size: must divide the inputs of all projections (64, 128), got 128; 64 and 32"),
        (["--method", "gptq", "--group-size", "4"], "group-size: must be -1 (all inputs) or at least 8, got 4"),
        (["--method", "squeezellm", "--outliers", "0.5"], "outliers: must be from 0 to 0.05 of the weights, got 0.5"),
        (["--method", "int8", "--sample-tokens", "512"], "sample-tokens: must be at most 256, the model's context"),
        (["--method", "int8", "--calibration", "/no/such"], "calibration: /no/such cannot be read: No such file"),
        (
            ["--method", "int8", "--calibration", "SHORT"],
            "calibration: must hold at least 48 tokens, a piece, both before and in its last ninth, got ",
        ),
        (["--method", "int8", "--gpu", "h1"], "got 'h1'"),
        (["--method", "int8", "--out", "MODEL"], "out: must be a folder outside the model's"),
        (["--method", "int8", "--out", "FULL"], "out: must be a new or an empty folder, got"),
        (["--method", "int8", "--out", "SHORT"], "out: must be a folder, got the file"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    options: list[str],
    words: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    (tmp_path / "short").write_text("too short")
    places = {"MODEL": model, "FULL": tmp_path / "full", "SHORT": tmp_path / "short"}
    given = [places.get(each, each) for each in options]
    out = [] if "--out" in given else ["--out", tmp_path / "out"]
    samples = [] if "--sample-tokens" in given else FAST
    assert quantize(monkeypatch, model, *samples, *given, *out) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert not list((tmp_path / "out").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("method", "name", "number", "layers"),
    [
        *((method, "model.layers.1.mlp.down_proj.weight", torch.nan, 1) for method in METHODS if "," not in method),
        *((method, "model.embed_tokens.weight", torch.nan, 0) for method in METHODS if "," not in method),
        ("int8", "model.layers.0.input_layernorm.weight", torch.inf, 0),
        ("gptq", "model.layers.2.self_attn.q_proj.weight", -torch.inf, 2),
        ("fp8", "model.norm.weight", torch.nan, 0),
        ("int8", "lm_head.weight", torch.inf, 0),
    ],
)
def test_a_model_with_nan_is_one_line(
    method: str,
    name: str,
    number: float,
    layers: int,
    model: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """It names the tensor, of which nothing is written: layers in front of it are. No text has the last token."""
    broken, out = tmp_path / "broken", tmp_path / "out"
    with_number(model, broken, name, number)
    assert quantize(monkeypatch, broken, *options_of(method, out, text, "cpu")) == 2
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == f"octavo: {name} must hold finite numbers, got NaN or infinity"
    assert told.out == ""
    assert len(list(out.glob("*.safetensors"))) == layers
    assert not (out / "config.json").exists()


def test_numbers_that_become_too_large_are_one_line(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Squares of what the first projections multiply."""
    with_number(model, tmp_path / "large", "model.layers.0.input_layernorm.weight", 1e30)
    assert quantize(monkeypatch, tmp_path / "large", *options_of("gptq", tmp_path / "out", text, "cpu")) == 2
    assert "octavo: model: must compute with finite numbers" in capsys.readouterr().err


def test_a_model_that_is_quantised_or_a_file_is_refused(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    options = ["--method", "int8", "--calibration", text, *FAST]
    assert quantize(monkeypatch, model, *options, "--out", tmp_path / "once") == 0
    assert quantize(monkeypatch, tmp_path / "once", *options, "--out", tmp_path / "twice") == 2
    assert "model: must be in 16 or 32 bits, got one that is quantised already" in capsys.readouterr().err
    assert quantize(monkeypatch, "builtin://smollm2", *options, "--out", tmp_path / "file") == 2
    assert "got the GGUF file" in capsys.readouterr().err


def test_checkpoints_in_fewer_bits_are_compared_whoever_made_them(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in ("int8", "gptq"):
        assert quantize(monkeypatch, model, *options_of(name, tmp_path / name, text, "cpu")) == 0
    capsys.readouterr()
    folders = [model, tmp_path / "int8", tmp_path / "gptq"]
    asked = ["--text", text, "--pieces", 2, "--tokens", 48]
    assert octavo(monkeypatch, "bench", "quantizers", *folders, *asked, "--json") == 0
    whole, eight, four = json.loads(capsys.readouterr().out)["rows"]
    assert [each["name"].partition(" ")[2] for each in (eight, four)] == ["(int-quantized, 8 bits)", "(gptq, 4 bits)"]
    assert whole["kl_mnat"] == 0 < eight["kl_mnat"] < four["kl_mnat"]
    assert whole["mb"] > eight["mb"] > four["mb"]
    assert eight["perplexity"] == pytest.approx(whole["perplexity"], rel=0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tokens", 257], "tokens: must be at most 256, the model's context, got 257"),
        (["--text", "/no/such"], "text: /no/such cannot be read: No such file"),
        (
            ["--text", "SHORT", "--tokens", 48],
            "text: must hold at least 48 tokens, a piece, both before and in",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    options: list[object],
    words: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "short").write_text("too short")
    given = [tmp_path / "short" if each == "SHORT" else each for each in options]
    tokens = [] if "--tokens" in options else ["--tokens", 48]
    assert octavo(monkeypatch, "bench", "quantizers", model, model, *tokens, *given) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
