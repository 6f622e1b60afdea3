"""Mixtures of experts: mistakes that would show, the forms that checkpoints have, and what is refused."""

import json
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from expert_models import EXPERT_FAMILIES
from family_models import save
from safetensors.torch import load_file, save_file
from small_models import cache_shape, in_groups, random_prompts
from transformers import (
    Ernie4_5_MoeConfig,
    Glm4MoeConfig,
    GptOssConfig,
    GraniteMoeConfig,
    GraniteMoeSharedConfig,
    HunYuanMoEV1Config,
    MiniMaxM2Config,
    MixtralConfig,
    OlmoeConfig,
    PhimoeConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from octavo_kernels.experts.reference import NUMBERS
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.experts import Experts
from octavo_runtime.layers.rope_scaling import YarnRope
from octavo_runtime.layers.router import Router
from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.config_json import spec_from_config, spec_from_folder
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.tensor_shapes import tensor_shapes
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.planning.parameters import weight_bytes
from octavo_runtime.protocol.step import Slice
from octavo_runtime.worker.batch import build_batch

CPU = torch.device("cpu")
GLM = {"model_type": "glm4_moe", "head_dim": 128}
[PROMPT] = random_prompts(60)


def scores(decoder: Decoder) -> torch.Tensor:
    """Of each token of the prompt, [tokens, vocab]."""
    spec = decoder.spec
    decoder.reach(64)
    cache = torch.zeros(cache_shape(spec, 4, 16))
    batch = build_batch([Slice(0, 0, PROMPT)], in_groups(spec, np.arange(4, dtype=np.int32)[None], 4), 16, CPU)
    with torch.inference_mode():
        return decoder.logits(decoder.forward(batch, cache))


@cache
def saved(family: str) -> tuple[dict[str, torch.Tensor], ModelSpec, torch.Tensor]:
    """A random model's tensors, its spec, and transformers' scores."""
    with TemporaryDirectory() as folder:
        model = save(EXPERT_FAMILIES[family], Path(folder), spread=0.2)
        with torch.inference_mode():
            expected = model(torch.tensor([PROMPT])).logits[0]
        return load_file(Path(folder) / "model.safetensors"), spec_from_folder(Path(folder)), expected


def difference(family: str, change: Callable[[ModelSpec], ModelSpec]) -> float:
    """From transformers' scores, as a share of the largest."""
    tensors, spec, expected = saved(family)
    found = scores(build_decoder(change(spec), lambda name, _: tensors[name], CPU, torch.float32))
    return float((found - expected).abs().max() / expected.abs().max())


def routed(**fields: object) -> Callable[[ModelSpec], ModelSpec]:
    def change(spec: ModelSpec) -> ModelSpec:
        assert spec.experts is not None
        return replace(spec, experts=replace(spec.experts, routing=replace(spec.experts.routing, **fields)))

    return change


def with_experts(**fields: object) -> Callable[[ModelSpec], ModelSpec]:
    return lambda spec: replace(spec, experts=replace(spec.experts, **fields))


MISTAKES = {
    "weights that are not normalised": ("mixtral", routed(renormalises=False)),
    "softmax behind the choice instead of before": ("qwen 3 moe, plain weights", routed(renormalises=True)),
    "an expert too few": ("granite moe", routed(top_k=2)),
    "the shared expert's gate left out": ("qwen 2 moe", with_experts(gates_shared=False)),
    "the shared expert left out": ("granite moe, shared", with_experts(shared_size=0)),
    "sigmoids taken for a softmax": ("minimax m2", routed(scores="softmax")),
    "the choice's correction left out": ("ernie 4.5 moe", routed(has_correction=False)),
    "the weights' scale left out": ("glm 4.5", routed(scale=1.0)),
    "the groups left out": ("glm 4.5, groups", routed(groups=1, top_groups=1)),
    "SparseMixer taken for a softmax": ("phi moe", routed(scores="softmax")),
    "a smaller jitter": ("phi moe", routed(jitter=0.01)),
    "the sinks left out": ("gpt-oss", lambda spec: replace(spec, has_sinks=False)),
    "the experts' biases left out": ("gpt-oss", with_experts(has_biases=False)),
    "a lower limit": ("gpt-oss", with_experts(limit=1.0)),
    "SwiGLU for gpt-oss's activation": ("gpt-oss", with_experts(limit=None)),
    "queries and keys normalised before they are turned": (
        "hunyuan",
        lambda spec: replace(spec, qk_norm_follows_rope=False),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_would_show(mistake):
    family, change = MISTAKES[mistake]
    assert difference(family, lambda spec: spec) < 1e-5
    assert difference(family, change) > 1e-2


def test_a_correction_in_the_weights_would_show(monkeypatch):
    route = Router.__call__

    def corrected(router: Router, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ids, weights = route(router, hidden)
        return ids, weights + router.correction[ids]

    monkeypatch.setattr(Router, "__call__", corrected)
    assert difference("glm 4.5", lambda spec: spec) > 1e-2


FAMILY_NAMES = {config.model_type: name for name, config in reversed(EXPERT_FAMILIES.items())}
del FAMILY_NAMES["gpt_oss"]  # whose two forms are one


@pytest.mark.parametrize("family", FAMILY_NAMES.values())
def test_the_form_that_transformers_holds_in_memory_is_read_too(family, tmp_path):
    model = save(EXPERT_FAMILIES[family], tmp_path / "hub")
    model.save_pretrained(tmp_path / "memory", save_original_format=False)
    hub, memory = (load_file(tmp_path / kind / "model.safetensors") for kind in ("hub", "memory"))
    assert set(hub) != set(memory)
    one, other = (
        load_model(EngineConfig(model=str(folder)), locate(str(folder)), CPU, torch.float32)
        for folder in (tmp_path / "hub", tmp_path / "memory")
    )
    assert torch.equal(scores(one), scores(other))


def test_each_tensor_is_let_go_before_the_next_is_read():
    """Beside the experts of all layers, no more than one stored tensor of an expert is held."""
    tensors, spec, _ = saved("mixtral")
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def read(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if ".experts." in name:
            assert len(alive) == 0
        tensor = tensors[name].clone()
        if ".experts." in name:
            alive.add(tensor)
        return tensor

    decoder = build_decoder(spec, read, CPU, torch.float32)
    [first, *_] = decoder.stack.layers
    assert isinstance(first.mlp, Experts)
    assert first.mlp.gate_up.shape == (4, 2 * 56, 96)


def packed(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blocks and scales of a weight [experts, rows, columns] in MXFP4, and what they stand for."""
    numbers = torch.tensor(NUMBERS)
    groups = weight.unflatten(-1, (-1, 32))
    exponents = (groups.abs().amax(-1) / 6).log2().ceil()
    halves = (groups / exponents.exp2().unsqueeze(-1)).unsqueeze(-1).sub(numbers).abs().argmin(-1)
    blocks = (halves[..., ::2] | halves[..., 1::2] << 4).to(torch.uint8)
    rounded = (numbers[halves] * exponents.exp2().unsqueeze(-1)).flatten(-2)
    return blocks, (exponents + 127).to(torch.uint8), rounded


def test_weights_in_mxfp4_stay_so_and_score_as_what_they_stand_for(tmp_path):
    config = GptOssConfig(**{**EXPERT_FAMILIES["gpt-oss"].to_dict(), "intermediate_size": 64})
    model = save(config, tmp_path, spread=0.2)
    tensors = load_file(tmp_path / "model.safetensors")
    for layer, block in enumerate(model.model.layers):
        for name in ("gate_up_proj", "down_proj"):
            weight = getattr(block.mlp.experts, name)
            at = f"model.layers.{layer}.mlp.experts.{name}"
            tensors[f"{at}_blocks"], tensors[f"{at}_scales"], rounded = packed(weight.detach().mT)
            weight.data = rounded.mT.contiguous()
            del tensors[at]
    lay(tmp_path, tensors)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "quantization_config": {"quant_method": "mxfp4"}}))
    decoder = load_model(EngineConfig(model=str(tmp_path)), locate(str(tmp_path)), CPU, torch.float32)
    [first, *_] = decoder.stack.layers
    assert isinstance(first.mlp, Experts)
    assert first.mlp.gate_up.nbytes == 4 * 128 * 96 * 17 // 32
    assert decoder.num_bytes == weight_bytes(decoder.spec, 4, "cpu")
    with torch.inference_mode():
        expected = model(torch.tensor([PROMPT])).logits[0]
    torch.testing.assert_close(scores(decoder), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def lay(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_and_an_unknown_expert_are_named(tmp_path):
    tensors, spec, _ = saved("qwen 3 moe")
    lay(tmp_path, {**tensors, "model.layers.0.mlp.experts.6.up_proj.weight": torch.zeros(40, 96)})
    with pytest.raises(UnsupportedModel, match=r"does not read: model\.layers\.0\.mlp\.experts\.6\.up_proj\.weight$"):
        SafetensorsFolder(tmp_path).check(tensor_shapes(spec))
    lay(tmp_path, {name: tensor for name, tensor in tensors.items() if "experts.5.up_proj" not in name})
    with pytest.raises(UnsupportedModel, match=r"no tensor model\.layers\.0\.mlp\.experts\.5\.up_proj\.weight"):
        SafetensorsFolder(tmp_path).check(tensor_shapes(spec))


@pytest.mark.parametrize(
    ("family", "name"),
    [("glm 4.5", "model.layers.3.eh_proj.weight"), ("ernie 4.5 moe", "model.mtp_linear_proj.0.weight")],
)
def test_what_predicts_a_further_token_is_passed_over(family, name, tmp_path):
    tensors, spec, _ = saved(family)
    lay(tmp_path, {**tensors, name: torch.zeros(1)})
    SafetensorsFolder(tmp_path, spec.unread).check(tensor_shapes(spec))
    with pytest.raises(UnsupportedModel, match="does not read"):
        SafetensorsFolder(tmp_path).check(tensor_shapes(spec))


@pytest.mark.parametrize(
    "theirs",
    [
        MixtralConfig(),
        Qwen3MoeConfig(),
        Qwen2MoeConfig(),
        OlmoeConfig(),
        GraniteMoeConfig(),
        GraniteMoeSharedConfig(),
        PhimoeConfig(),
        Glm4MoeConfig(head_dim=128),
        Ernie4_5_MoeConfig(),
        HunYuanMoEV1Config(num_experts=4),
        MiniMaxM2Config(),
    ],
)
def test_what_is_left_out_has_transformers_default(theirs):
    needed = {"hunyuan_v1_moe": {"num_experts": 4}, "glm4_moe": {"head_dim": 128}}
    spec = spec_from_config({"model_type": theirs.model_type, **needed.get(theirs.model_type, {})})
    assert (spec.vocab_size, spec.hidden_size) == (theirs.vocab_size, theirs.hidden_size)
    assert spec.num_layers == theirs.num_hidden_layers
    assert (spec.num_heads, spec.num_kv_heads) == (theirs.num_attention_heads, theirs.num_key_value_heads)
    assert spec.head_dim == (getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads)
    assert (spec.max_position, spec.rms_norm_eps) == (theirs.max_position_embeddings, theirs.rms_norm_eps)
    assert (spec.rope_theta, spec.rope_scaling) == (theirs.rope_parameters["rope_theta"], None)
    assert spec.rotated == spec.head_dim * theirs.rope_parameters.get("partial_rotary_factor", 1)
    assert spec.tie_embeddings == theirs.tie_word_embeddings
    assert spec.qkv_bias == getattr(theirs, "qkv_bias", getattr(theirs, "attention_bias", False))
    assert spec.windowed_layers == frozenset()
    assert spec.experts is not None
    routing = spec.experts.routing
    assert routing.num_experts == getattr(theirs, "num_local_experts", None) or theirs.num_experts
    assert routing.top_k == theirs.num_experts_per_tok
    assert spec.experts.intermediate_size == getattr(theirs, "moe_intermediate_size", theirs.intermediate_size)
    normalised = {"qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe"}
    if theirs.model_type in normalised:
        assert routing.renormalises == theirs.norm_topk_prob
    first = 1 if theirs.model_type in ("glm4_moe", "ernie4_5_moe") else 0
    assert spec.expert_layers == set(range(first, spec.num_layers))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "mixtral", "num_experts_per_tok": 9}, "experts must be at most 8, those to choose from, got 9"),
        ({**GLM, "n_group": 3}, r"n_group must divide the experts \(128\) into groups .* got 3"),
        (
            {**GLM, "n_group": 4, "topk_group": 5},
            r"topk_group must be from 1 to n_group \(4\), got 5",
        ),
        ({"model_type": "olmoe", "clip_qkv": 8.0}, "clip_qkv must be unset, got 8.0"),
        ({"model_type": "ernie4_5_moe", "use_bias": True}, "use_bias must be False beside experts, got True"),
        ({"model_type": "hunyuan_v1_moe", "num_experts": 4, "moe_topk": [1, 2]}, "moe_topk must be the same for all"),
        ({"model_type": "hunyuan_v1_moe", "num_experts": 0}, "experts must be at most 0"),
        (
            {"model_type": "gpt_oss", "quantization_config": {"quant_method": "fp8"}},
            "must be mxfp4, got fp8",
        ),
        (
            {"model_type": "gpt_oss", "hidden_size": 2888, "quantization_config": {"quant_method": "mxfp4"}},
            "must be multiples of 32 in mxfp4, got 2888 and 2880",
        ),
        ({"model_type": "llama", "num_local_experts": 8}, "num_local_experts must be unset or 0 or 1, got 8"),
        (
            {"model_type": "mixtral", "quantization_config": {"quant_method": "hqq"}},
            "quantization_config.quant_method must be one of",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fields, words):
    with pytest.raises(UnsupportedModel, match=words) as raised:
        spec_from_config(fields)
    assert "\n" not in str(raised.value)


def test_gpt_oss_has_transformers_defaults():
    spec, theirs = spec_from_config({"model_type": "gpt_oss"}), GptOssConfig()
    ours = spec.vocab_size, spec.hidden_size, spec.num_layers, spec.num_heads, spec.num_kv_heads, spec.head_dim
    sizes = "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"
    assert ours == tuple(getattr(theirs, name) for name in sizes)
    assert spec.rope_scaling == YarnRope(32.0, 4096, 32.0, 1.0, 0.1 * math.log(32) + 1, truncate=False)
    assert (spec.rope_theta, spec.rms_norm_eps, spec.window) == (150000.0, theirs.rms_norm_eps, theirs.sliding_window)
    assert spec.windowed_layers == {at for at, kind in enumerate(theirs.layer_types) if kind == "sliding_attention"}
    assert spec.experts is not None
    assert spec.experts.routing == Routing(theirs.num_local_experts, theirs.num_experts_per_tok)


def test_every_expert_may_be_left_out():
    """A Qwen whose layers are all in mlp_only_layers is a dense model."""
    spec = spec_from_config(
        json.loads('{"model_type": "qwen3_moe", "num_hidden_layers": 2, "mlp_only_layers": [0, 1]}')
    )
    assert spec.experts is None
    assert not [name for name in tensor_shapes(spec) if "experts" in name]
