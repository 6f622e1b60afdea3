"""Experts of quantised checkpoints of every format, against the same checkpoints in plain weights."""

import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_checkpoints import FORMATS, MIXTURE, Mixture, Writer, fp8, write_mixture
from safetensors.torch import load_file, save_file
from small_models import load_decoder, random_prompts

from octavo_kernels.experts import GroupedExperts, StackedGroups
from octavo_kernels.experts.reference import dequantize
from octavo_runtime.distributed.group import Group
from octavo_runtime.layers.experts import Experts
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading import experts as loading
from octavo_runtime.models.loading.config_json import spec_from_config, spec_from_folder
from octavo_runtime.models.loading.dummy_weights import dummy_reader
from octavo_runtime.models.loading.experts import build_experts, in_stored_form
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.sharding import sharded
from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.shards import shard
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.known_models import find_model
from octavo_runtime.planning.parameters import expert_size, parameter_count, weight_bytes
from octavo_runtime.planning.quantized_weights import expert_saving
from octavo_runtime.protocol.step import Slice
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.worker.batch import build_batch

CPU, META = torch.device("cpu"), torch.device("meta")
[PROMPT] = random_prompts(20)
# What has more beside the numbers than their scales.
UNPACKED = [name for name in FORMATS if "order" in name or "squeezellm" in name]
_FP8_BLOCKS = {**FORMATS["fp8 blocks"][1], "weight_block_size": [32, 32]}
ON_CPU = ["awq", "gptq", "gptq v2", "gptq, 8 bits", "int4 groups", "int4 groups, asymmetric", "int8", "llm.int8"]
ON_CPU.append("int8 words, per row")


@torch.inference_mode()
def scores(decoder: Decoder, dtype: torch.dtype) -> torch.Tensor:
    """Of each token of PROMPT."""
    cache = torch.zeros(MIXTURE.num_hidden_layers, 2, 2, 16, MIXTURE.num_key_value_heads, MIXTURE.head_dim, dtype=dtype)
    table = np.array([[[0, 1]]], dtype=np.int32)
    return decoder.logits(decoder.forward(build_batch([Slice(0, 0, PROMPT)], table, 16, CPU), cache)).float()


def of_experts(decoder: Decoder) -> Experts:
    experts = decoder.stack.layers[-1].mlp
    assert isinstance(experts, Experts)
    return experts


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Mixture]:
    """The checkpoint of a format."""
    return cache(lambda name: write_mixture(tmp_path_factory.mktemp("mixture"), *FORMATS[name]))


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its form, which the oracle computes with, on the CPU."""
    monkeypatch.setattr(loading, "unpacks", lambda device, dtype: True)
    monkeypatch.setattr(loading, "packs", lambda device, dtype: False)


@pytest.mark.parametrize("name", FORMATS)
def test_scores_are_those_of_the_weights_that_are_meant(name: str, mixture: Callable[[str], Mixture]) -> None:
    stored, meant = mixture(name)
    expected = scores(load_decoder(meant, torch.float32), torch.float32)
    exact = scores(load_decoder(stored, torch.float32), torch.float32)
    torch.testing.assert_close(exact, expected, rtol=1e-4, atol=1e-4)
    decoder = load_decoder(stored, torch.bfloat16)
    rounded = scores(decoder, torch.bfloat16)
    torch.testing.assert_close(rounded, expected, rtol=0, atol=0.05 * float(expected.abs().max()))
    assert isinstance(of_experts(decoder).gate_up, GroupedExperts if name in ON_CPU else torch.Tensor)
    assert isinstance(of_experts(decoder).down, GroupedExperts if name in ON_CPU else torch.Tensor)


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize("name", FORMATS)
def test_a_gpus_form_computes_the_same(name: str, mixture: Callable[[str], Mixture]) -> None:
    stored, meant = mixture(name)
    expected = scores(load_decoder(meant, torch.float32), torch.float32)
    decoder = load_decoder(stored, torch.float32)
    found = scores(decoder, torch.float32)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.abs().max()))
    kind = torch.Tensor if name in UNPACKED else StackedGroups
    assert isinstance(of_experts(decoder).gate_up, kind)
    assert isinstance(of_experts(decoder).down, kind)


def built(spec: ModelSpec, read: ReadTensor, device: torch.device = META) -> Experts:
    """The experts alone, as a GPU has them."""
    return build_experts(spec, "model.layers.0.", read, device, torch.bfloat16)


def check_planned_bytes(experts: Experts, spec: ModelSpec) -> None:
    assert spec.experts is not None
    planned = 2 * len(spec.experts.here) * expert_size(spec) - expert_saving(spec)
    held = experts.gate_up.nbytes + experts.down.nbytes
    assert abs(planned - held) <= 0.02 * held


@pytest.mark.parametrize("name", FORMATS)
def test_a_gpu_holds_what_is_planned_of_all_and_of_a_share(name: str, mixture: Callable[[str], Mixture]) -> None:
    spec = spec_from_folder(mixture(name).folder)
    read = SafetensorsFolder(mixture(name).folder, scheme=spec.quantization).read
    check_planned_bytes(built(spec, read), spec)
    check_planned_bytes(built(spec, dummy_reader(spec, CPU, torch.bfloat16, 0)), spec)
    for whole_experts in (False, True):
        share = shard(spec, 2, 1, whole_experts=whole_experts)
        check_planned_bytes(built(share, sharded(read, spec, share, 1, 2)), share)


@pytest.mark.parametrize("name", ["awq", "fp8 blocks"])
def test_each_expert_is_let_go_before_the_next_is_read(name: str, mixture: Callable[[str], Mixture]) -> None:
    spec = spec_from_folder(mixture(name).folder)
    folder = SafetensorsFolder(mixture(name).folder, scheme=spec.quantization)
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def read(name: str, shape: tuple[int, ...]) -> StoredTensor:
        assert len(alive) == 0
        stored = folder.read(name, shape)
        if isinstance(stored, GroupedMatrix):
            alive.add(stored.values)
        return stored

    assert isinstance(built(spec, read).gate_up, StackedGroups)


@pytest.mark.parametrize("name", ["awq", "int8", "fp8 blocks"])
def test_a_cpu_holds_what_is_planned(name: str, mixture: Callable[[str], Mixture]) -> None:
    experts = of_experts(load_decoder(mixture(name).folder, torch.bfloat16))
    found = find_model(str(mixture(name).folder))
    assert (found.packed_bytes < 0) == (name in ON_CPU)
    planned = 2 * 4 * expert_size(found.spec) + found.packed_bytes
    assert abs(planned - (experts.gate_up.nbytes + experts.down.nbytes)) <= 0.02 * planned


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize("name", FORMATS)
def test_ranks_have_their_share_in_the_same_form(name: str, mixture: Callable[[str], Mixture]) -> None:
    """Where a share of the inputs cuts a group, they are in 16 bits."""
    spec = spec_from_folder(mixture(name).folder)
    read = SafetensorsFolder(mixture(name).folder, scheme=spec.quantization).read
    whole = built(spec, read, CPU)
    gate_up, down = dequantize(whole.gate_up), dequantize(whole.down)
    share = shard(spec, 2, 1)
    found = built(share, sharded(read, spec, share, 1, 2), CPU)
    mine = gate_up.unflatten(1, (2, 2, 96))[:, :, 1].flatten(1, 2)
    torch.testing.assert_close(dequantize(found.gate_up), mine, rtol=0, atol=0)
    torch.testing.assert_close(dequantize(found.down), down[:, :, 96:], rtol=1e-2, atol=0)
    assert isinstance(found.gate_up, StackedGroups) == (name not in UNPACKED)
    assert isinstance(found.down, StackedGroups) == (name not in (*UNPACKED, "fp8 blocks", "nf4", "nf4, nested"))
    share = shard(spec, 2, 1, whole_experts=True)
    found = built(share, sharded(read, spec, share, 1, 2), CPU)
    assert dequantize(found.gate_up).equal(gate_up[2:])
    assert dequantize(found.down).equal(down[2:])


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_whole_groups_of_rows_of_a_share_keep_their_scales(tmp_path: Path) -> None:
    stored = write_mixture(tmp_path, fp8(32, 32, "weight_scale_inv"), _FP8_BLOCKS).folder
    spec = spec_from_folder(stored)
    share = shard(spec, 2, 1)
    found = built(share, sharded(SafetensorsFolder(stored, scheme=spec.quantization).read, spec, share, 1, 2), CPU)
    assert isinstance(found.gate_up, StackedGroups)
    assert isinstance(found.down, StackedGroups)
    assert found.gate_up.weight.group == found.down.weight.group == (32, 32)
    check_planned_bytes(found, share)


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize(("write", "quantization"), [(fp8(32, 32, "weight_scale_inv"), _FP8_BLOCKS), FORMATS["int8"]])
def test_experts_in_one_tensor_are_read_too(write: Writer, quantization: dict[str, Any], tmp_path: Path) -> None:
    """As transformers holds them."""
    stored = write_mixture(tmp_path, write, quantization).folder
    hub = load_decoder(stored, torch.float32)
    tensors = load_file(stored / "model.safetensors")
    own = {name: tensor for name, tensor in tensors.items() if ".experts." in name}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in own}
    at, parts = "model.layers.0.mlp.experts", [name.rpartition(".")[2] for name in own if ".0.down_proj." in name]
    for part in parts:
        every = [[own[f"{at}.{expert}.{name}.{part}"] for expert in range(4)] for name in ("gate_proj", "up_proj")]
        halves = [torch.cat([gate.view(torch.uint8), up.view(torch.uint8)]) for gate, up in zip(*every, strict=True)]
        kind, down = every[0][0].dtype, [own[f"{at}.{expert}.down_proj.{part}"] for expert in range(4)]
        name = part.removeprefix("weight")
        tensors[f"{at}.gate_up_proj{name}"] = torch.stack(halves).view(kind)
        tensors[f"{at}.down_proj{name}"] = torch.stack([each.view(torch.uint8) for each in down]).view(kind)
    save_file(tensors, stored / "model.safetensors", metadata={"format": "pt"})
    decoder = load_decoder(stored, torch.float32)
    assert isinstance(of_experts(decoder).gate_up, StackedGroups)
    assert isinstance(of_experts(decoder).down, StackedGroups)
    assert scores(decoder, torch.float32).equal(scores(hub, torch.float32))
    every = dequantize(of_experts(decoder).gate_up), dequantize(of_experts(decoder).down)
    folder = SafetensorsFolder(stored, scheme=decoder.spec.quantization)
    spec = in_stored_form(spec_from_folder(stored), folder.has)
    for whole_experts in (False, True):
        share = shard(spec, 2, 1, whole_experts=whole_experts)
        found = built(share, sharded(folder.read, spec, share, 1, 2), CPU)
        mine = [each[2:] for each in every]
        if not whole_experts:
            mine = [every[0].unflatten(1, (2, 2, 96))[:, :, 1].flatten(1, 2), every[1][:, :, 96:]]
        assert isinstance(found.gate_up, StackedGroups)
        assert isinstance(found.down, StackedGroups)
        assert dequantize(found.gate_up).equal(mine[0])
        assert dequantize(found.down).equal(mine[1])


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_an_expert_in_another_form_leaves_all_in_16_bits(tmp_path: Path) -> None:
    stored, meant = write_mixture(tmp_path, *FORMATS["gptq"])
    at = "model.layers.0.mlp.experts.3.up_proj"
    plain = load_file(meant / "model.safetensors")[f"{at}.weight"]
    path = stored / "model.safetensors"
    others = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(f"{at}.")}
    save_file({**others, f"{at}.weight": plain}, path, metadata={"format": "pt"})
    decoder = load_decoder(stored, torch.float32)
    assert isinstance(of_experts(decoder).gate_up, torch.Tensor)
    assert isinstance(of_experts(decoder).down, StackedGroups)
    expected = scores(load_decoder(meant, torch.float32), torch.float32)
    torch.testing.assert_close(
        scores(decoder, torch.float32), expected, rtol=0, atol=2e-3 * float(expected.abs().max())
    )


LATENT = {
    "model_type": "deepseek_v3",
    "vocab_size": 300,
    "hidden_size": 256,
    "intermediate_size": 256,
    "moe_intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "n_routed_experts": 16,
    "n_shared_experts": 2,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 64,
    "v_head_dim": 64,
}


@pytest.mark.parametrize("whole_experts", [False, True])
@pytest.mark.parametrize("blocks", [32, 128])
def test_a_model_with_latents_and_shared_experts_takes_what_is_planned(blocks: int, whole_experts: bool) -> None:
    quantization = {**FORMATS["fp8 blocks"][1], "weight_block_size": [blocks, blocks]}
    spec = spec_from_config({**LATENT, "quantization_config": quantization})
    read = dummy_reader(spec, CPU, torch.bfloat16, 0)
    held = build_decoder(spec, read, META, torch.bfloat16).num_bytes
    assert abs(weight_bytes(spec, 2) - held) <= 0.02 * held
    assert held < 0.65 * 2 * parameter_count(spec)
    share = shard(spec, 2, 1, whole_experts=whole_experts)
    held = build_decoder(share, sharded(read, spec, share, 1, 2), META, torch.bfloat16, Group(1, 2)).num_bytes
    assert abs(weight_bytes(share, 2) - held) <= 0.02 * held
