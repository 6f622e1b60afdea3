"""Small random Llama-shaped models of odd sizes, on disk and in memory, and a way to run an engine over prompts."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.layer_groups import group_windows, layers_of_a_block
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.protocol.messages import Output
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import Slice
from octavo_runtime.worker.batch import build_batch

EOS = 299
# Two correct engines round differently; only where the two best scores nearly tie may their tokens part.
TIE = 1e-3


def shape(*, heads: int, kv_heads: int, head_dim: int, tied: bool, layers: int = 2) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=300,
        hidden_size=12 * heads,  # transformers wants a multiple of the heads
        intermediate_size=72,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=256,
        eos_token_id=EOS,
        tie_word_embeddings=tied,
    )


SHAPES = {
    "3 heads of 64, tied": shape(heads=3, kv_heads=1, head_dim=64, tied=True),
    "5 heads of 80": shape(heads=5, kv_heads=5, head_dim=80, tied=False),
    "6 heads of 96, tied": shape(heads=6, kv_heads=2, head_dim=96, tied=True),
    "7 heads of 128": shape(heads=7, kv_heads=1, head_dim=128, tied=False),
}


def save(config: LlamaConfig, folder: Path, seed: int = 0) -> LlamaForCausalLM:
    """A random model, its scores spread widely enough that the best token seldom ties with the next."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model


def make_engine(folder: Path, **config: Any) -> Engine:
    defaults = {"device": "cpu", "dtype": "float32", "kv_cache_memory": "16Mi"}
    return Engine(EngineConfig.model_validate({"model": str(folder), **defaults, **config}))


def cache_shape(spec: ModelSpec, blocks: int, block_size: int) -> tuple[int, ...]:
    """Of a KV cache with so many blocks in each group of layers."""
    planes, heads, width = spec.cached_token
    groups = len(group_windows(spec))
    return layers_of_a_block(spec), planes, groups * blocks, block_size, heads, width


def in_groups(spec: ModelSpec, tables: npt.NDArray[np.int32], blocks: int) -> npt.NDArray[np.int32]:
    """Block tables [groups, rows, blocks] of a model's groups of layers: each takes the places that `tables` [rows,
    blocks] name in its own part of a cache of cache_shape(spec, blocks, ...)."""
    return np.stack([tables + group * blocks for group in range(len(group_windows(spec)))])


def random_prompts(*lengths: int, seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, EOS, (length,), generator=generator).tolist() for length in lengths]


def run(engine: Engine, prompts: list[list[int]], params: SamplingParams) -> list[list[Output]]:
    """All outputs of each prompt, blocks checked after every step; nothing may be left over."""
    outputs: dict[str, list[Output]] = {}
    for index, prompt in enumerate(prompts):
        engine.add_request(str(index), prompt, params)
        outputs[str(index)] = []
    while engine.has_work:
        for output in engine.step():
            outputs[output.request_id].append(output)
        engine.check_integrity()
    assert engine.load.blocks_used == 0
    return list(outputs.values())


def check_greedy(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> None:
    """Each token is transformers' best one, or ties with it."""
    with torch.inference_mode():
        scores = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    for row, token in zip(scores, answer, strict=True):
        assert row[token] >= row.max() - TIE


def tokens_of(outputs: list[Output], index: int = 0) -> list[int]:
    return [token for output in outputs if output.index == index for token in output.token_ids]


def in_chunks(decoder: Decoder, prompt: list[int]) -> torch.Tensor:
    """What a decoder makes of a prompt of up to 64 tokens in two chunks, and of its last token alone, in the type of
    its weights, where they are."""
    block, blocks = 8, 8
    decoder.reach(block * blocks)
    cache = decoder.embedding.weight.new_full(cache_shape(decoder.spec, blocks, block), torch.nan)
    tables = in_groups(decoder.spec, np.arange(blocks, dtype=np.int32)[None], blocks)
    found, cuts = [], (0, 17, len(prompt) - 1, len(prompt))
    for first, last in itertools.pairwise(cuts):
        batch = build_batch([Slice(0, first, prompt[first:last])], tables, block, cache.device)
        found.append(decoder.forward(batch, cache))
    return torch.cat(found)


def load_decoder(folder: Path, dtype: torch.dtype, device: str = "cpu", **config: Any) -> Decoder:
    """A model in a folder."""
    settings = EngineConfig.model_validate({"model": str(folder), "device": device, **config})
    decoder = load_model(settings, locate(str(folder)), torch.device(device), dtype)
    decoder.reach(64)
    return decoder
