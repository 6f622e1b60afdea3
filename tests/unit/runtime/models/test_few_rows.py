"""Decodes of a few sequences, whose layers run as a recording over packed weights."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import cache_shape, in_groups

from octavo_kernels.quantized_linear.cases import random_groups
from octavo_runtime.layers.alibi import alibi_slopes
from octavo_runtime.layers.batch import Batch
from octavo_runtime.layers.linear import FEW_ROWS
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.weights import ReadTensor, StoredTensor, build_decoder
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import LLAMA_NAMES
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.protocol.step import Slice
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix
from octavo_runtime.worker.batch import build_batch

CPU = torch.device("cpu")
BLOCK, BLOCKS = 16, 13  # of a row
PLAIN = replace(
    find_spec("SmolLM2-135M"),
    vocab_size=160,
    hidden_size=96,
    intermediate_size=64,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=24,
    max_position=BLOCK * BLOCKS,
)
SPECS = {
    "plain": PLAIN,
    "one kv head": replace(PLAIN, num_kv_heads=1, head_dim=40),
    "no grouping": replace(PLAIN, num_kv_heads=4, num_layers=1),
    "biased": replace(PLAIN, qkv_bias=True, output_bias=True, mlp_bias=True),
    "normalised heads": replace(PLAIN, qk_norm=True),
    "unrotated layers": replace(PLAIN, unrotated_layers=frozenset({0, 2})),
    "multiplied": replace(PLAIN, embedding_multiplier=3.0, residual_multiplier=0.3, attention_scale=0.1),
    "windowed and capped": replace(PLAIN, window=21, windowed_layers=frozenset({0, 2}), attention_softcap=2.0),
    "slanted": replace(PLAIN, alibi_slopes=alibi_slopes(4), unrotated_layers=frozenset(range(3))),
    "turned in part": replace(PLAIN, rotary_dim=8),
    "norms on both sides": replace(
        PLAIN,
        norm_offset=1.0,
        activation="gelu_tanh",
        windowed_rope_theta=100.0,
        window=40,
        windowed_layers=frozenset({1}),
        tensors=replace(LLAMA_NAMES, attention_post_norm="post_norm_of_attention", mlp_post_norm="post_norm_of_mlp"),
    ),
}
DTYPES = (torch.bfloat16, torch.float16)


@pytest.fixture
def empty_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def quantized(eight: tuple[str, ...] = ()) -> ReadTensor:
    """Random weights: all projections in groups, of 4 bits or, if their names are among `eight`, of 8."""
    generator = torch.Generator().manual_seed(0)

    def read(name: str, shape: tuple[int, ...]) -> StoredTensor:
        if len(shape) == 1 or "proj" not in name:
            return ("norm" in name) + 0.2 * torch.randn(shape, generator=generator)
        bits = 8 if any(part in name for part in eight) else 4
        values, scales, minimums = random_groups(bits, *shape)
        scales = scales * 0.2 / shape[1] ** 0.5 / (1 if bits == 4 else 16)
        return QuantizedMatrix(
            values, scales.half().float(), None if minimums is None else (-8 * scales).half().float()
        )

    return read


def model(spec: ModelSpec, dtype: torch.dtype, eight: tuple[str, ...] = ()) -> Decoder:
    decoder = build_decoder(spec, quantized(eight), CPU, dtype)
    decoder.reach(spec.max_position)
    return decoder


def step(spec: ModelSpec, rows: int) -> Batch:
    """One token of each sequence, of which each has its own length, the longest first."""
    tables = np.random.default_rng(rows).permutation(rows * BLOCKS).astype(np.int32).reshape(rows, BLOCKS)
    lengths = sorted((1 + 37 * row % 190 for row in range(rows)), reverse=True)
    return build_batch(
        [Slice(row, n, [5 * row % 160]) for row, n in enumerate(lengths)],
        in_groups(spec, tables, rows * BLOCKS),
        BLOCK,
        CPU,
    )


def random_cache(spec: ModelSpec, rows: int, dtype: torch.dtype) -> torch.Tensor:
    shape = cache_shape(spec, rows * BLOCKS, BLOCK)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@torch.inference_mode()
def compare(decoder: Decoder, rows: int, dtype: torch.dtype) -> None:
    """A replay with the same operations one by one."""
    assert decoder.few_rows is not None
    cache, batch = random_cache(decoder.spec, rows, dtype), step(decoder.spec, rows)
    expected_cache = cache.clone()
    plans = decoder.plan_attention(batch, expected_cache)
    expected = decoder.few_rows(decoder.embedding(batch.token_ids, batch.positions), batch, plans, expected_cache)
    found = decoder.forward(batch, cache)
    assert found.equal(expected)
    assert cache.equal(expected_cache)
    assert not cache.equal(random_cache(decoder.spec, rows, dtype))
    assert not found.isnan().any()


@pytest.mark.usefixtures("empty_memory_is_nan")
@pytest.mark.parametrize("name", SPECS)
def test_a_replay_is_what_the_operations_compute(name: str) -> None:
    """To the last bit, for all kinds of layers; types of weights and caches take turns."""
    number = list(SPECS).index(name)
    decoder = model(SPECS[name], DTYPES[number % 2], ("down_proj", "v_proj", "k_proj", "q_proj") if number % 3 else ())
    for rows in (1, 2, 5):
        compare(decoder, rows, (torch.bfloat16, torch.float16, torch.float32)[(number + rows) % 3])


@pytest.mark.usefixtures("empty_memory_is_nan")
def test_each_number_of_rows_has_a_replay() -> None:
    decoder = model(PLAIN, torch.bfloat16)
    for rows in range(1, FEW_ROWS + 1):
        compare(decoder, rows, torch.bfloat16)


@pytest.mark.parametrize("name", SPECS)
@torch.inference_mode()
def test_packed_layers_compute_what_their_weights_say(name: str) -> None:
    """As the decoder in float32 does with weights that are dequantised."""
    spec = SPECS[name]
    exact, packed = model(spec, torch.float32), model(spec, torch.float16)
    batch, cache = step(spec, 4), random_cache(spec, 4, torch.float32)
    found = packed.forward(batch, cache.half())
    expected = exact.forward(batch, cache)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01 * float(expected.abs().max()))


@torch.inference_mode()
def test_a_sequence_grows_from_replay_to_replay() -> None:
    """Tables, lengths and slots are those of the step, and not of the recording."""
    decoder, exact = model(PLAIN, torch.float16), model(PLAIN, torch.float32)
    caches = torch.zeros_like(random_cache(PLAIN, 1, torch.float16)), random_cache(PLAIN, 1, torch.float32).zero_()
    table = np.random.default_rng(0).permutation(BLOCKS).astype(np.int32).reshape(1, 1, BLOCKS)
    for position in range(2 * BLOCK + 3):
        batch = build_batch([Slice(0, position, [7 * position % 160])], table, BLOCK, CPU)
        found, expected = (one.forward(batch, cache) for one, cache in zip((decoder, exact), caches, strict=True))
        torch.testing.assert_close(found, expected, rtol=0, atol=0.01 * float(expected.abs().max()))
