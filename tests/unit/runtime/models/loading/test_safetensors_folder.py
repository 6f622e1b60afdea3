"""Which tensors of a folder are read, against transformers on the same folder, and what is refused by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from patience import PATIENCE
from safetensors.torch import load_file, save_file
from small_models import make_engine, random_prompts, run, save, shape, tokens_of
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM

from octavo_runtime.llm import LLM
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.protocol.sampling_params import SamplingParams

[PROMPT] = random_prompts(20)
FIRST = "model.layers.0"
TINY = shape(heads=2, kv_heads=1, head_dim=32, tied=False, layers=2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The tensors and the configuration of one model with a head of its own."""
    folder = tmp_path_factory.mktemp("saved")
    save(TINY, folder)
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


def lay(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, object]) -> Path:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def lay_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def answer(folder: Path) -> list[int]:
    greedy = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
    [outputs] = run(make_engine(folder), [PROMPT], greedy)
    return tokens_of(outputs)


def transformers_answer(folder: Path) -> list[int]:
    """What the model that transformers loads from the folder finds best after each token."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        tokens = model.generate(torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False, eos_token_id=-1)
    return tokens[0, len(PROMPT) :].tolist()


def test_the_index_names_the_files_whatever_else_lies_there(saved, tmp_path):
    tensors, config = saved
    strays = {name: torch.randn_like(tensor) for name, tensor in tensors.items()}
    expected = answer(lay(tmp_path, tensors, config))
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {name: f"model-0000{1 + (place > 5)}-of-00002.safetensors" for place, name in enumerate(names)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for stray in ("model_ema.safetensors", "optimizer.safetensors", "a.safetensors"):
        save_file(strays, tmp_path / stray)
    assert answer(tmp_path) == expected == transformers_answer(tmp_path)

    index.unlink()
    with pytest.raises(
        UnsupportedModel, match=r"must hold model\.safetensors\.index\.json or model\.safetensors, found a"
    ):
        make_engine(tmp_path)
    save_file(tensors, tmp_path / "model.safetensors")
    assert answer(tmp_path) == expected, "without an index, model.safetensors alone"


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "gone.safetensors"}, "names files that are not there: gone.safetensors"),
        ({"a": "../model.safetensors"}, r"must name .safetensors files of its folder, got '../model.safetensors'"),
        ({"a": "model.bin"}, "must name .safetensors files of its folder, got 'model.bin'"),
        ({"a": 1}, "must name .safetensors files of its folder"),
        ([], "weight_map must be an object"),
    ],
)
def test_an_index_that_misleads_is_refused(weight_map, words, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UnsupportedModel, match=words):
        SafetensorsFolder(tmp_path)


def test_a_head_that_differs_is_used_though_the_configuration_says_tied(saved, tmp_path):
    tensors, config = saved
    lay(tmp_path, tensors, {**config, "tie_word_embeddings": True})
    assert answer(tmp_path) == transformers_answer(tmp_path)


@pytest.mark.parametrize("kept", [("lm_head",), ("model.embed_tokens",), ("lm_head", "model.embed_tokens")])
def test_a_tied_head_may_be_saved_by_either_name_or_both(saved, kept, tmp_path):
    tensors, config = saved
    shared = tensors["lm_head.weight"]
    rest = {name: tensor for name, tensor in tensors.items() if "lm_head" not in name and "embed" not in name}
    lay(
        tmp_path,
        {**rest, **{f"{name}.weight": shared.clone() for name in kept}},
        {**config, "tie_word_embeddings": True},
    )
    assert answer(tmp_path) == transformers_answer(tmp_path)
    folder = SafetensorsFolder(tmp_path)
    assert folder.ties(says_so=True)


def test_names_without_the_prefix_are_read_as_transformers_does(saved, tmp_path):
    tensors, config = saved
    lay(tmp_path, {name.removeprefix("model."): tensor for name, tensor in tensors.items()}, config)
    assert answer(tmp_path) == transformers_answer(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({f"{FIRST}.self_attn.q_proj.weight_scale": torch.ones(1)}, "does not read: .*q_proj.weight_scale"),
        ({f"{FIRST}.self_attn.q_proj.bias": torch.ones(64)}, "does not read: .*q_proj.bias"),
        ({f"{FIRST}.self_attn.q_norm.weight": torch.ones(32)}, "does not read: .*q_norm.weight"),
        ({"model.layers.2.input_layernorm.weight": torch.ones(24)}, "does not read: model.layers.2.input_layernorm"),
        ({f"extra.{place}": torch.ones(1) for place in range(9)}, "does not read: extra.0, .*, extra.2 and 6 more"),
        (
            {f"{FIRST}.mlp.up_proj.weight": torch.zeros(72, 24).to(torch.float8_e4m3fn)},
            r"mlp\.up_proj\.weight: type must be one of F64, F32, F16, BF16, got F8_E4M3",
        ),
        ({f"{FIRST}.mlp.up_proj.weight": torch.zeros(72, 24, dtype=torch.int8)}, "got I8"),
        ({"lm_head.weight": torch.zeros(300, 24, dtype=torch.int32)}, r"lm_head\.weight: type .* got I32"),
        ({"lm_head.weight": None}, r"no tensor lm_head\.weight"),
        ({"model.norm.weight": torch.ones(25)}, r"model\.norm\.weight: shape must be \(24,\), got \(25,\)"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(saved, change, words, tmp_path):
    tensors, config = saved
    changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    lay(tmp_path, changed, config)
    with pytest.raises(UnsupportedModel, match=words):
        make_engine(tmp_path)


def test_what_only_repeats_the_configuration_may_be_left_over(saved, tmp_path):
    tensors, config = saved
    expected = answer(lay(tmp_path, tensors, config))
    lay(tmp_path, {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(16)}, config)
    assert answer(tmp_path) == expected


@pytest.mark.parametrize("cut", [0, 5, 200, 5000, -1])
def test_a_truncated_file_is_named(saved, cut, tmp_path):
    path = lay(tmp_path, *saved) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UnsupportedModel, match=rf"{path}: is no whole safetensors file: "):
        SafetensorsFolder(tmp_path)


def test_beyond_its_sliding_window_a_mistral_answers_as_in_transformers(tmp_path):
    torch.manual_seed(0)
    fields = {name: getattr(TINY, name) for name in ("vocab_size", "hidden_size", "num_hidden_layers", "head_dim")}
    config = MistralConfig(
        **fields,
        intermediate_size=72,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=40,
        max_position_embeddings=256,
        eos_token_id=299,
    )
    model = MistralForCausalLM(config).float().eval()
    model.save_pretrained(tmp_path)
    engine = make_engine(tmp_path)
    assert engine.ready.max_model_len == 256
    greedy = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    [outputs] = run(engine, [PROMPT], greedy)
    with torch.inference_mode():
        whole = model.generate(torch.tensor([PROMPT]), max_new_tokens=60, do_sample=False, eos_token_id=-1)
    assert tokens_of(outputs) == whole[0, len(PROMPT) :].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--api-workers", "2"]])
def test_a_model_that_cannot_be_served_ends_the_server_with_one_line_and_exit_code_2(saved, more, tmp_path):
    path = lay(tmp_path, *saved) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    lay_tokenizer(tmp_path)
    command = [sys.executable, "-m", "octavo_runtime", "serve", str(tmp_path), "--port", "0", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"octavo: {path}: is no whole safetensors file: ")


def test_a_configuration_that_cannot_be_served_is_one_line_and_exit_code_2_of_the_planner(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 0}')
    command = [sys.executable, "-m", "octavo_runtime", "plan", "--model", str(tmp_path), "--gpu", "l4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"octavo: {tmp_path}/config.json: num_hidden_layers: ")


def test_a_model_that_cannot_be_served_is_a_value_error_of_llm(saved, tmp_path):
    lay(tmp_path, saved[0], {**saved[1], "quantization_config": {"quant_method": "hqq"}})
    lay_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json: quantization_config.quant_method must be one of .* got 'hqq'"):
        LLM(str(tmp_path), device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_a_link_to_what_is_gone_is_named(name, tmp_path):
    (tmp_path / name).symlink_to(tmp_path / "gone")
    with pytest.raises(UnsupportedModel, match=rf"{name}: must be a file, got a folder or a link to what is not there"):
        SafetensorsFolder(tmp_path)
