"""Experts of GGUF files whose weights stay in groups, on a CPU and on a GPU."""

from dataclasses import replace

import gguf
import pytest
import torch
from family_models import random
from gguf_families import write_converted
from random_gguf import random_rows
from transformers import Qwen3MoeConfig

from octavo_kernels.experts import GroupedExperts, StackedGroups, Weights
from octavo_kernels.experts.reference import dequantize
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.experts import Experts
from octavo_runtime.layers.linear import prepacks
from octavo_runtime.models.loading import experts
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.config_json import spec_from_config
from octavo_runtime.models.loading.experts import build_experts
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.gguf_file import GGUFFile
from octavo_runtime.models.loading.gguf_spec import EXPERTS
from octavo_runtime.models.loading.sharding import sharded
from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor
from octavo_runtime.models.shards import shard
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.known_models import find_model
from octavo_runtime.planning.memory import plan_memory
from octavo_runtime.quantization.gguf_blocks import quantized_matrix
from octavo_runtime.quantization.scheme import Scheme

CPU = torch.device("cpu")
SMALL = Qwen3MoeConfig(
    vocab_size=300, hidden_size=64, intermediate_size=96, moe_intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=32, num_experts=6, num_experts_per_tok=3,
    norm_topk_prob=True, max_position_embeddings=256, eos_token_id=3, pad_token_id=0,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
@torch.inference_mode()
def test_experts_of_a_file_stay_in_groups(kind: str, tmp_path) -> None:
    model, path = random(SMALL, spread=0.2), tmp_path / "model.gguf"
    write_converted(path, model, gguf.GGMLQuantizationType[kind])
    ours = load_model(EngineConfig(model=str(path)), locate(str(path)), CPU, torch.bfloat16)
    hidden = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    for layer, theirs in zip(ours.stack.layers, model.model.layers, strict=True):
        assert isinstance(layer.mlp, Experts)
        assert isinstance(layer.mlp.gate_up, GroupedExperts)
        assert isinstance(layer.mlp.down, GroupedExperts)
        expected = theirs.mlp(hidden.float().unsqueeze(0)).squeeze(0)
        torch.testing.assert_close(layer.mlp(hidden).float(), expected, rtol=0.02, atol=0.02)
    found = find_model(str(path))
    planned = plan_memory(found.spec, EngineConfig(model="m"), 2**34, "cpu", found.packed_bytes)
    assert found.packed_bytes < 0
    if prepacks(torch.bfloat16):
        assert ours.num_bytes == planned.weight_bytes
    else:  # the CPU keeps the other weights packed alone too
        assert ours.num_bytes < planned.weight_bytes


@pytest.mark.parametrize("kinds", [("Q4_K", "Q4_K", "Q6_K"), ("Q3_K", "Q8_0", "Q2_K"), ("IQ4_XS", "F32", "Q5_K")])
@torch.inference_mode()
def test_projections_that_run_as_one_may_be_of_several_types(
    kinds: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in groups where all of them are."""
    config = {**SMALL.to_dict(), "architectures": ["Qwen3MoeForCausalLM"]}
    spec = spec_from_config({**config, "hidden_size": 256, "moe_intermediate_size": 256})
    spec = replace(spec, tensors=replace(spec.tensors, experts=(EXPERTS,)))
    stored: dict[str, StoredTensor] = {EXPERTS.router: torch.zeros(6, 256)}
    exact = []
    for name, kind in zip((*EXPERTS.gate_up, EXPERTS.down), kinds, strict=True):
        matrix = quantized_matrix(kind, random_rows(kind, 6 * 256, 256)) if kind != "F32" else None
        exact.append((torch.randn(6 * 256, 256) if matrix is None else matrix.dequantize()).view(6, 256, 256))
        stored[name] = exact[-1] if matrix is None else matrix
    expected = torch.cat(exact[:2], dim=1), exact[2]
    spec = replace(spec, quantization=Scheme("gguf", 4, "blocks", (1, 256), density=2**15))

    def built(dtype: torch.dtype) -> tuple[Weights, Weights]:
        found = build_experts(spec, "", lambda name, _: stored[name], CPU, dtype)
        return found.gate_up, found.down

    assert [isinstance(each, GroupedExperts) for each in built(torch.bfloat16)] == ["F32" not in kinds, True]
    for found, weight in zip(built(torch.bfloat16), expected, strict=True):
        close = 1e-5 if isinstance(found, GroupedExperts) else 2**-8
        torch.testing.assert_close(dequantize(found), weight, rtol=close, atol=close * float(weight.abs().max()))
    for found, weight in zip(built(torch.float32), expected, strict=True):
        assert isinstance(found, torch.Tensor)
        assert found.equal(weight), "as the references have it"
    monkeypatch.setattr(experts, "packs", lambda device, dtype: False)
    monkeypatch.setattr(experts, "unpacks", lambda device, dtype: True)
    are_alike = kinds[0] == kinds[1]
    assert [isinstance(each, StackedGroups) for each in built(torch.float32)] == [are_alike, True], "as on a GPU"
    for found, weight in zip(built(torch.float32), expected, strict=True):
        assert dequantize(found).equal(weight)


def test_ranks_have_their_share_of_a_files_experts_in_groups(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; of a cut through blocks in 16 bits."""
    path = tmp_path / "model.gguf"
    write_converted(path, random(SMALL, spread=0.2), gguf.GGMLQuantizationType["Q5_1"])
    file = GGUFFile(path)
    monkeypatch.setattr(experts, "packs", lambda device, dtype: False)
    monkeypatch.setattr(experts, "unpacks", lambda device, dtype: True)

    def built(spec: ModelSpec, read: ReadTensor) -> tuple[Weights, Weights]:
        found = build_experts(spec, "model.layers.1.", read, CPU, torch.float32)
        return found.gate_up, found.down

    gate_up, down = map(dequantize, built(file.spec, file.read))
    share = shard(file.spec, 2, 1, whole_experts=True)
    for found, whole in zip(built(share, sharded(file.read, file.spec, share, 1, 2)), (gate_up, down), strict=True):
        assert isinstance(found, StackedGroups)
        assert dequantize(found).equal(whole[3:])
    heads = replace(file.spec, num_heads=6, num_kv_heads=6)  # 2 and 3 divide them
    for size, is_cut in ((2, True), (3, False)):
        share = shard(heads, size, size - 1)
        found_up, found_down = built(share, sharded(file.read, file.spec, share, size - 1, size))
        inner = 96 // size
        assert isinstance(found_up, StackedGroups)
        assert isinstance(found_down, StackedGroups) != is_cut
        assert dequantize(found_up).equal(gate_up.unflatten(1, (2, 96))[:, :, -inner:].flatten(1, 2))
        torch.testing.assert_close(dequantize(found_down), down[:, :, -inner:], rtol=1e-6, atol=0)
