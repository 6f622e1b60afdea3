"""Quantised checkpoints and GGUF files on a GPU: prompts of few and of many tokens, and a decode behind them."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from family_models import save
from gguf_families import write_converted
from packed_checkpoints import FORMATS, MIXTURE, write_checkpoint, write_mixture
from random_gguf import random_model, random_rows, write
from small_models import cache_shape, load_decoder, random_prompts
from transformers import Qwen3MoeConfig

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.grouped_weights import grouped_weights
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.planning.parameters import weight_bytes
from octavo_runtime.protocol.step import Slice
from octavo_runtime.quantization.gguf_blocks import PACKED, quantized_matrix
from octavo_runtime.worker.batch import build_batch

pytestmark = pytest.mark.gpu
CPU, GPU = torch.device("cpu"), torch.device("cuda")
PROMPTS = [[token % 150 for token in prompt] for prompt in random_prompts(20, 100, 200)]
BLOCK, BLOCKS = 16, 16


def load(path: Path) -> Decoder:
    decoder = load_model(EngineConfig(model=str(path), device="cuda"), locate(str(path)), GPU, torch.bfloat16)
    decoder.reach(BLOCK * BLOCKS)
    return decoder


@torch.inference_mode()
def scores(decoder: Decoder, prompt: list[int], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Of each token: all but the last as a prompt, the last as a decode."""
    decoder.reach(BLOCK * BLOCKS)
    cache = torch.zeros(cache_shape(decoder.spec, BLOCKS, BLOCK), dtype=dtype, device=device)
    table = np.arange(BLOCKS, dtype=np.int32)[None, None]
    found = [
        decoder.forward(build_batch([Slice(0, start, tokens)], table, BLOCK, device), cache)
        for start, tokens in ((0, prompt[:-1]), (len(prompt) - 1, prompt[-1:]))
    ]
    return torch.cat([decoder.logits(hidden) for hidden in found]).float().cpu()


def check(decoder: Decoder, meant: Decoder) -> None:
    for prompt in PROMPTS:
        expected = scores(meant, prompt, CPU, torch.float32)
        found = scores(decoder, prompt, GPU, torch.bfloat16)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.08 * float(expected.abs().max()))


@pytest.mark.parametrize("name", FORMATS)
def test_scores_are_those_of_the_weights_that_are_meant(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, *FORMATS[name])
    decoder = load(tmp_path)
    check(decoder, load_decoder(tmp_path, torch.float32))
    if "sparse" not in name:  # how many outliers there are, no configuration says
        assert decoder.num_bytes == pytest.approx(weight_bytes(decoder.spec, 2), rel=0.03)


@pytest.mark.parametrize("name", FORMATS)
def test_scores_of_experts_too(name: str, tmp_path: Path) -> None:
    stored, meant = write_mixture(tmp_path, *FORMATS[name])
    check(load(stored), load_decoder(meant, torch.float32))


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_scores_of_8_bits_that_are_made_at_load(kind: str, tmp_path: Path) -> None:
    save(MIXTURE, tmp_path)
    asked = EngineConfig.model_validate({"model": str(tmp_path), "device": "cuda", "quantization": kind})
    decoder = load_model(asked, locate(str(tmp_path)), GPU, torch.bfloat16)
    check(decoder, load_decoder(tmp_path, torch.float32))
    assert decoder.num_bytes == pytest.approx(weight_bytes(decoder.spec, 2), rel=0.02)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_scores_of_a_file_and_of_its_experts(kind: str, tmp_path: Path) -> None:
    dense, mixture = tmp_path / "dense.gguf", tmp_path / "mixture.gguf"
    write(dense, random_model(), gguf.GGMLQuantizationType[kind])
    small = random_model(Qwen3MoeConfig, moe_intermediate_size=96, num_experts=4, num_experts_per_tok=4, head_dim=16)
    write_converted(mixture, small, gguf.GGMLQuantizationType[kind])
    for path in (dense, mixture):
        meant = load_model(EngineConfig(model=str(path)), locate(str(path)), CPU, torch.float32)
        decoder = load(path)
        check(decoder, meant)
        assert decoder.num_bytes == pytest.approx(weight_bytes(decoder.spec, 2), rel=0.02)


@pytest.mark.parametrize("kind", PACKED)
def test_blocks_are_unpacked_to_the_last_bit(kind: str) -> None:
    from octavo_kernels.grouped_linear.triton import dequantize

    data = random_rows(kind)
    matrix = quantized_matrix(kind, data)
    assert matrix is not None
    expected = torch.from_numpy(gguf.dequantize(data, gguf.GGMLQuantizationType[kind]))
    assert dequantize(grouped_weights(matrix, GPU), torch.float32).cpu().equal(expected)
