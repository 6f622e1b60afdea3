"""The decoder's two ways: operation by operation, and of a few sequences a recording over packed weights."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from random_gguf import CONFIG, random_model, write
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.batch import Batch
from octavo_runtime.layers.linear import FEW_ROWS, prepacks
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.step import Slice
from octavo_runtime.worker.batch import build_batch

CPU = torch.device("cpu")
BLOCK = 16
PROMPTS = [[(7 * row + 5 * place) % CONFIG.vocab_size for place in range(3 + 3 * row)] for row in range(FEW_ROWS + 1)]


def decoder(path: Path, dtype: torch.dtype) -> Decoder:
    model = load_model(EngineConfig(model=str(path)), locate(str(path)), CPU, dtype)
    model.reach(CONFIG.max_position_embeddings)
    return model


def batch(rows: int, *, decodes: bool) -> Batch:
    """The last token of the first prompts, or all tokens before."""
    tables = np.arange(len(PROMPTS) * 4, dtype=np.int32).reshape(1, len(PROMPTS), 4)
    slices = [
        Slice(row, len(prompt) - 1 if decodes else 0, prompt[-1:] if decodes else prompt[:-1])
        for row, prompt in enumerate(PROMPTS[:rows])
    ]
    return build_batch(slices, tables, BLOCK, CPU)


def next_scores(model: Decoder, rows: int) -> torch.Tensor:
    """[rows, vocab], of a step in which each of the first prompts brings its last token."""
    spec, dtype = model.spec, model.embedding.weight.dtype
    cache = torch.zeros(spec.num_layers, 2, len(PROMPTS) * 4, BLOCK, spec.num_kv_heads, spec.head_dim, dtype=dtype)
    model.forward(batch(rows, decodes=False), cache)
    step = batch(rows, decodes=True)
    return model.logits(model.forward(step, cache)[torch.from_numpy(step.last_tokens)])


@pytest.mark.parametrize(
    ("kind", "tied", "family"),
    [
        *((kind, tied, LlamaConfig) for kind in ("Q4_0", "Q4_1", "Q8_0") for tied in (False, True)),
        ("Q4_1", False, Qwen2Config),
        ("Q4_1", False, Qwen3Config),
    ],
)
def test_few_rows_score_as_many_do(kind: str, tied: bool, family: type[PreTrainedConfig], tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, random_model(family, head_dim=16), gguf.GGMLQuantizationType[kind], tied=tied)
    exact = next_scores(decoder(path, torch.float32), len(PROMPTS))
    model = decoder(path, torch.bfloat16)
    assert model.few_rows is not None
    margin = 0.05 * float(exact.abs().max())
    for rows in (1, 2, 3, FEW_ROWS, FEW_ROWS + 1):
        found = next_scores(model, rows)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact[:rows], rtol=0, atol=margin)


@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_weights_of_16_bits_and_more_are_not_packed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, random_model(), gguf.GGMLQuantizationType[kind])
    assert decoder(path, torch.bfloat16).few_rows is None
    write(path, random_model(), gguf.GGMLQuantizationType.Q4_1)
    assert decoder(path, torch.float32).few_rows is None


def test_packed_layers_count_as_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, random_model(), gguf.GGMLQuantizationType.Q4_1)
    model = decoder(path, torch.bfloat16)
    assert model.few_rows is not None
    [columns, inner, layers] = CONFIG.hidden_size, CONFIG.intermediate_size, CONFIG.num_hidden_layers
    numbers = layers * (columns * columns * 3 + 3 * columns * inner)
    packed = numbers * 5 // 8  # 4 bits a weight, and a scale and a minimum of 16 bits for 32 of them
    norms = (2 * layers + 1) * columns
    assert model.few_rows.num_bytes == packed + norms * 4
    vocabulary = CONFIG.vocab_size * columns
    # In 16 bits too, if this CPU has products of them.
    beside = (numbers + vocabulary) * 2 * prepacks(torch.bfloat16)
    rest = model.num_bytes - model.few_rows.num_bytes - beside
    assert rest == vocabulary * 2 + vocabulary * 5 // 8 + norms * 2
