"""GGUF files in the form that a GPU has: as they are stored, in groups."""

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from random_gguf import random_model, random_rows, write
from small_models import in_chunks, random_prompts

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Group
from octavo_runtime.layers import linear
from octavo_runtime.layers.linear import GroupedLinear, StackedLinear, build_linear
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.gguf_file import GGUFFile
from octavo_runtime.models.loading.gguf_scheme import block_scheme
from octavo_runtime.models.loading.sharding import sharded
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.shards import shard
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.planning.parameters import weight_bytes
from octavo_runtime.planning.quantized_weights import unpacked_bytes
from octavo_runtime.quantization.gguf_blocks import quantized_matrix
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix, QuantizedRows, concatenate

CPU, META = torch.device("cpu"), torch.device("meta")
KINDS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]  # that the gguf package writes


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its form, which the oracle computes with, on the CPU."""
    monkeypatch.setattr(linear, "unpacks", lambda device, dtype: True)


def load(path: Path, device: torch.device, dtype: torch.dtype) -> Decoder:
    return load_model(EngineConfig(model=str(path)), locate(str(path)), device, dtype)


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_scores_are_those_of_the_weights_that_are_meant(kind: str, tmp_path: Path) -> None:
    model, path = random_model(), tmp_path / "model.gguf"
    write(path, model, gguf.GGMLQuantizationType[kind])
    decoder = load(path, CPU, torch.float32)
    assert all(isinstance(layer.mlp.gate_up, GroupedLinear) for layer in decoder.stack.layers)
    assert isinstance(decoder.head, GroupedLinear)
    [prompt] = random_prompts(40)
    prompt = [token % 160 for token in prompt]
    expected = model(torch.tensor([prompt])).logits[0]
    found = decoder.logits(in_chunks(decoder, prompt))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", [*KINDS, "F16"])
def test_a_gpu_holds_what_is_planned(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, random_model(), gguf.GGMLQuantizationType[kind])
    spec = find_spec(str(path))
    assert (spec.quantization is None) == (kind == "F16")
    assert load(path, META, torch.bfloat16).num_bytes == pytest.approx(weight_bytes(spec, 2), rel=1e-3)
    assert unpacked_bytes(spec, 2) == (0 if kind == "F16" else 2 * 64 * 192)


def test_the_models_own_file_takes_what_is_planned() -> None:
    spec = find_spec("builtin://smollm2")
    files = locate("builtin://smollm2")
    held = load_model(EngineConfig(model="builtin://smollm2"), files, META, torch.bfloat16).num_bytes
    assert held == pytest.approx(weight_bytes(spec, 2), rel=1e-3)


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_projections_that_run_as_one_may_be_of_several_types() -> None:
    found = [quantized_matrix(kind, random_rows(kind, rows)) for kind, rows in (("Q4_K", 12), ("Q6_K", 4))]
    matrices = [matrix for matrix in found if isinstance(matrix, QuantizedMatrix)]
    stored = concatenate(matrices)
    assert isinstance(stored, QuantizedRows)
    bias, x = torch.randn(16), torch.randn(5, 512)
    projection = build_linear(stored, bias, CPU, torch.float32)
    assert isinstance(projection, StackedLinear)
    assert projection.num_bytes == 12 * 2 * 148 + 4 * 2 * 210 + bias.nbytes
    expected = x @ stored.dequantize().T + bias
    torch.testing.assert_close(projection(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    out = torch.full((5, 16), torch.nan)
    assert projection(x, out) is out
    assert out.equal(projection(x))


class Stored:
    """A tensor of a file, as gguf's reader describes it."""

    def __init__(self, kind: str, *shape: int) -> None:
        self.tensor_type, self.shape = gguf.GGMLQuantizationType[kind], np.array(shape)
        self.n_elements = int(np.prod(shape))


def test_the_average_counts_each_type_and_what_stays_in_16_bits() -> None:
    tensors = {
        "token_embd.weight": Stored("Q6_K", 256, 1000),
        "blk.0.attn_norm.weight": Stored("F32", 256),
        "blk.0.attn_q.weight": Stored("Q4_K", 256, 256),
        "blk.0.attn_k.weight": Stored("Q4_K", 256, 256),
        "blk.0.attn_v.weight": Stored("Q6_K", 256, 256),
        "blk.0.ffn_gate.weight": Stored("Q4_K", 256, 512),
        "blk.0.ffn_up.weight": Stored("F16", 256, 512),  # and the gate with it
        "blk.0.ffn_gate_inp.weight": Stored("F32", 256, 4),
        "blk.0.ffn_gate_exps.weight": Stored("Q4_K", 256, 256, 4),
        "blk.0.ffn_up_exps.weight": Stored("Q5_K", 256, 256, 4),  # another type than the gates'
        "blk.0.ffn_down_exps.weight": Stored("Q5_K", 256, 256, 4),
    }
    blocks = 256
    held = blocks * (2 * 148 + 210) + 2 * 2 * 256 * 512 + 2 * 2 * 4 * 256 * 256 + 4 * blocks * 180
    elements = 3 * 256 * 256 + 2 * 256 * 512 + 3 * 4 * 256 * 256
    scheme = block_scheme(tensors, has_packed_experts=False)
    assert scheme is not None
    assert scheme.num_bytes(1, elements) == pytest.approx(held, rel=1e-4)
    assert scheme.group == (1, 256)
    without = block_scheme(tensors, has_packed_experts=True)
    assert without is not None
    of_experts = held - 2 * 2 * 4 * 256 * 256 - 4 * blocks * 180
    assert without.num_bytes(1, elements - 12 * 256 * 256) == pytest.approx(of_experts, rel=1e-4)
    plain = {name: Stored("F16", *each.shape) for name, each in tensors.items()}
    assert block_scheme(plain, has_packed_experts=False) is None


@pytest.mark.parametrize("size", [2, 4])
def test_a_rank_holds_what_is_planned(size: int, tmp_path: Path) -> None:
    """With 4 ranks shares of the inner width, 24 of 96, cut blocks of 32."""
    path = tmp_path / "model.gguf"
    write(path, random_model(), gguf.GGMLQuantizationType.Q4_0)
    file = GGUFFile(path)
    share = shard(file.spec, size, 1)
    read = sharded(file.read, file.spec, share, 1, size)
    held = build_decoder(share, read, META, torch.bfloat16, Group(1, size)).num_bytes
    assert held == pytest.approx(weight_bytes(share, 2), rel=1e-3)
    assert held < weight_bytes(replace(share, quantization=None), 2)
