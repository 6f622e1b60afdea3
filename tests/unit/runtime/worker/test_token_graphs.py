"""A forward pass in pieces brings what the plain one brings, whatever its padding. On a CPU the pieces run operation by
operation; on a GPU they are captured."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small_models import SHAPES, cache_shape, in_groups, make_engine, random_prompts, run, save, tokens_of
from torch.nn import functional

from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.grouped_linear import reference as grouped_reference
from octavo_kernels.skinny_linear import reference
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers import attention, linear
from octavo_runtime.layers.alibi import alibi_slopes
from octavo_runtime.layers.linear import DenseLinear, GroupedLinear
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.families.gemma2 import SANDWICHED
from octavo_runtime.models.families.olmo2 import BEHIND
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.spec import LatentHeads
from octavo_runtime.models.tensor_names import TensorNames
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.planning.reserves import MOST_CAPTURED_TOKENS, arena_elements, graph_bytes
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import UNKNOWN, Slice
from octavo_runtime.worker.batch import build_batch
from octavo_runtime.worker.decode_graphs import DecodeGraphs, padded_size
from octavo_runtime.worker.graph_arena import reserve
from octavo_runtime.worker.token_graphs import SIZES, TokenGraphs, padded_tokens

PLAIN = replace(
    find_spec("SmolLM2-135M"),
    vocab_size=300,
    hidden_size=48,
    intermediate_size=72,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=32,
    max_position=512,
)
SPECS = {
    "plain": PLAIN,
    "biased": replace(PLAIN, qkv_bias=True, output_bias=True, mlp_bias=True),
    "normalised heads": replace(PLAIN, qk_norm=True),
    "unrotated layers": replace(PLAIN, unrotated_layers=frozenset({0, 2})),
    "windows": replace(PLAIN, window=20, windowed_layers=frozenset({0, 2})),
    "windows and soft caps": replace(PLAIN, window=50, windowed_layers=frozenset({1}), attention_softcap=2.0),
    "olmo": replace(PLAIN, qk_norm=True, qk_norm_spans_heads=True, tensors=BEHIND),
    "parts of heads turned": replace(PLAIN, rotary_dim=12, interleaved_rope=True),
    "side by side": replace(
        PLAIN, norm="layer", norm_bias=True, is_parallel=True, mlp_bias=True, tensors=TensorNames(mlp_norm=None)
    ),
    "bloom": replace(
        PLAIN,
        norm="layer",
        normalises_embedding=True,
        alibi_slopes=alibi_slopes(6),
        unrotated_layers=frozenset(range(3)),
    ),
    "norms behind": replace(PLAIN, norm="layer", is_post_norm=True, projected_words=40),
    "gemma": replace(
        PLAIN,
        window=20,
        windowed_layers=frozenset({0, 2}),
        windowed_rope_theta=100.0,
        norm_offset=1.0,
        qk_norm=True,
        activation="gelu_tanh",
        tensors=SANDWICHED,
    ),
    "latents": replace(
        PLAIN, num_kv_heads=6, rotary_dim=12, interleaved_rope=True, latent=LatentHeads(24, 18, query_rank=20)
    ),
    "latents, direct queries": replace(PLAIN, num_kv_heads=6, rotary_dim=8, latent=LatentHeads(24, 32)),
    "multiplied": replace(PLAIN, embedding_multiplier=3.0, residual_multiplier=0.3, attention_scale=0.1),
}
# Of these, what a layer's halves bring is added to the stream just as it is.
ADDING = {
    "plain",
    "normalised heads",
    "unrotated layers",
    "windows",
    "windows and soft caps",
    "parts of heads turned",
    "latents",
    "latents, direct queries",
}
# Of these, one kernel can multiply, turn and write.
TURNING = {
    "plain",
    "biased",
    "unrotated layers",
    "windows",
    "windows and soft caps",
    "side by side",
    "norms behind",
    "multiplied",
}
TOLERANCES = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
BLOCK, BLOCKS = 16, 20  # of a row
# Of each row: tokens in the cache, and tokens of the step.
BATCHES = {
    "a token": [(0, 1)],
    "a prompt": [(0, 15)],
    "a prompt that fills its size": [(0, 16)],
    "a prompt and a token too many": [(0, 17)],
    "a chunk": [(100, 70)],
    "prompts": [(0, 40), (0, 3), (0, 66), (0, 19)],
    "decodes": [(30, 1), (150, 1), (2, 1)],
    "a mix": [(17, 1), (0, 33), (200, 1), (64, 20), (0, 1), (5, 2)],
    "a long mix": [(31, 1), (0, 300), (16, 100), (90, 1)],
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def random_decoder(spec, device: str, dtype: torch.dtype) -> Decoder:
    generator = torch.Generator().manual_seed(0)

    def read(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        around = 1.0 if "norm" in name else 0.0
        return around + 0.1 * torch.randn(shape, generator=generator)

    decoder = build_decoder(spec, read, torch.device(device), dtype)
    decoder.reach(spec.max_position)
    return decoder


def random_cache(decoder: Decoder, rows: int) -> torch.Tensor:
    spec, weight = decoder.spec, decoder.embedding.weight
    shape = cache_shape(spec, rows * BLOCKS, BLOCK)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(weight)


def pieces_of(decoder: Decoder, cache: torch.Tensor, most: int) -> TokenGraphs:
    return TokenGraphs(decoder, cache, reserve(decoder.spec, cache, 0, padded_tokens(most)), most)


@torch.inference_mode()
def compare(decoder: Decoder, work: list[tuple[int, int]]) -> None:
    count = sum(tokens for _, tokens in work)
    tables = np.random.default_rng(2).permutation(len(work) * BLOCKS).astype(np.int32).reshape(len(work), BLOCKS)
    tables = in_groups(decoder.spec, tables, len(work) * BLOCKS)
    slices = [Slice(row, start, [(7 * row + 5 * one) % 300 for one in range(n)]) for row, (start, n) in enumerate(work)]
    cache = random_cache(decoder, len(work))
    expected_cache, device = cache.clone(), cache.device
    expected = decoder.forward(build_batch(slices, tables, BLOCK, device), expected_cache)
    graphs = pieces_of(decoder, cache, 512)
    while graphs.capture_next():
        pass
    size = graphs.size_for(count)
    assert size == padded_tokens(count)
    for memory in (graphs._tensors.stream, graphs._tensors.qkv, graphs._tensors.attended, graphs._tensors.hidden):
        memory[count:] = torch.nan
    batch = build_batch(slices, tables, BLOCK, device, size=size)
    found = graphs.forward(batch)
    assert batch.last_tokens.max() == count - 1
    largest = TOLERANCES[cache.dtype] * float(expected.abs().max())
    torch.testing.assert_close(found[:count], expected, rtol=0, atol=largest)
    largest = TOLERANCES[cache.dtype] * float(expected_cache.abs().max())
    torch.testing.assert_close(cache, expected_cache, rtol=0, atol=largest)
    written = (expected_cache != random_cache(decoder, len(work))).any(dim=(0, 1, 4, 5))
    unchanged = (cache == expected_cache).all(dim=(0, 1, 4, 5))
    assert int(written.sum()) == count * len(tables)
    assert bool((written | unchanged).all())


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("device", DEVICES)
def test_pieces_are_the_plain_forward_pass(batch, device):
    compare(random_decoder(PLAIN, device, torch.float32), BATCHES[batch])


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("device", DEVICES)
def test_all_families_in_all_types(spec, dtype, device):
    compare(random_decoder(SPECS[spec], device, dtype), BATCHES["a mix"])


@pytest.mark.parametrize("drawing", [(), (0,), (1, 3), (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("device", DEVICES)
def test_tokens_that_draw_alone_get_the_states_that_all_get(spec, drawing, device):
    """Whole and in pieces, padded and not; and the cache is the same."""
    decoder, work = random_decoder(SPECS[spec], device, torch.float32), BATCHES["a long mix"]
    tables = np.random.default_rng(2).permutation(len(work) * BLOCKS).astype(np.int32).reshape(len(work), BLOCKS)
    tables = in_groups(decoder.spec, tables, len(work) * BLOCKS)
    slices = [
        Slice(row, start, [(7 * row + 5 * one) % 300 for one in range(n)], [0] if row in drawing else [])
        for row, (start, n) in enumerate(work)
    ]
    caches = [random_cache(decoder, len(work)) for _ in range(3)]
    with torch.inference_mode():
        pack = partial(build_batch, slices, tables, BLOCK, caches[0].device)
        every, alone, padded = pack(), pack(drawing_size=int), pack(size=512, drawing_size=lambda count: count + 3)
        expected = decoder.forward(every, caches[0])[every.last_states[list(drawing)]]
        graphs = pieces_of(decoder, caches[2], 512)
        while graphs.capture_next():
            pass
        padding = 3 if drawing else 0
        for found, more in ((decoder.forward(alone, caches[1]), 0), (graphs.forward(padded), padding)):
            assert len(found) == len(drawing) + more
            close = partial(torch.testing.assert_close, rtol=0, atol=1e-4 * float(caches[0].abs().max()))
            close(found[alone.last_states[list(drawing)]], expected)
    for cache in caches[1:]:
        close(cache, caches[0])


def states_of_a_mix(decoder: Decoder) -> tuple[torch.Tensor, torch.Tensor]:
    """The hidden states of a batch, and the cache behind it."""
    work, cache = BATCHES["a mix"], random_cache(decoder, len(BATCHES["a mix"]))
    tables = in_groups(decoder.spec, np.arange(len(work) * BLOCKS, dtype=np.int32).reshape(-1, BLOCKS), 120)
    slices = [Slice(row, start, list(range(row, row + n))) for row, (start, n) in enumerate(work)]
    with torch.inference_mode():
        return decoder.forward(build_batch(slices, tables, BLOCK, cache.device), cache), cache


@pytest.mark.parametrize("spec", SPECS)
def test_products_that_add_to_the_stream_bring_the_same(spec, monkeypatch):
    """As those of many rows do on a GPU."""
    decoder = random_decoder(SPECS[spec], "cpu", torch.float32)
    expected, added, add_to = states_of_a_mix(decoder), [], DenseLinear.add_to
    monkeypatch.setattr(DenseLinear, "adds_to", lambda self, _: self.bias is None)
    monkeypatch.setattr(DenseLinear, "add_to", lambda self, *both: added.append(1) or add_to(self, *both))
    torch.testing.assert_close(states_of_a_mix(decoder), expected)
    assert len(added) == (2 * decoder.spec.num_layers if spec in ADDING else 0)


@pytest.mark.parametrize("spec", SPECS)
def test_products_that_turn_queries_and_keys_bring_the_same(spec, monkeypatch):
    """As those of few rows do on a GPU."""
    decoder = random_decoder(SPECS[spec], "cpu", torch.float32)
    expected, turned = states_of_a_mix(decoder), []
    layers = sum(layer not in decoder.spec.unrotated_layers for layer in range(decoder.spec.num_layers))
    monkeypatch.setattr(DenseLinear, "streams_for", lambda self, _: len(self.weight) == decoder.spec.qkv_size)
    monkeypatch.setattr(linear, "skinny_linear", lambda x, weight, bias, *_: functional.linear(x, weight, bias))
    monkeypatch.setattr(attention, "HEAD_DIMS", (32,))
    monkeypatch.setattr(
        linear,
        "skinny_rotary_write_kv",
        lambda *tensors: turned.append(1) or reference.skinny_rotary_write_kv(*tensors),
    )
    torch.testing.assert_close(states_of_a_mix(decoder), expected)
    assert len(turned) == (layers if spec in TURNING else 0)


@pytest.mark.parametrize("spec", SPECS)
def test_norms_between_products_bring_the_same(spec, monkeypatch):
    """As those between products of few rows do on a GPU."""
    decoder = random_decoder(SPECS[spec], "cpu", torch.float32)
    expected, begun = states_of_a_mix(decoder), norms_between_products(monkeypatch)
    torch.testing.assert_close(states_of_a_mix(decoder), expected, atol=1e-4, rtol=0)
    # Behind attention each, and behind the MLP those that the next layer's query, key and value read.
    behind_mlp = 0 if decoder.spec.latent else decoder.spec.num_layers - 1
    assert len(begun) == (decoder.spec.num_layers + behind_mlp if spec in ADDING else 0)


@pytest.mark.parametrize(
    "of_few_bits",
    [{"qkv", "output", "gate_up", "down"}, {"qkv", "gate_up"}, {"output", "down"}],
    ids=["all", "those that end norms", "those that begin norms"],
)
def test_norms_between_products_of_few_bits_bring_the_same(of_few_bits, monkeypatch):
    decoder = in_few_bits(random_decoder(PLAIN, "cpu", torch.float32), of_few_bits)
    expected, begun = states_of_a_mix(decoder), norms_between_products(monkeypatch)
    torch.testing.assert_close(states_of_a_mix(decoder), expected, atol=1e-4, rtol=0)
    assert len(begun) == 2 * PLAIN.num_layers - 1


def norms_between_products(monkeypatch) -> list[int]:
    """Lets products end and begin norms, with references in the kernels' places. One more for each that is begun."""
    begun: list[int] = []
    for kind in (DenseLinear, GroupedLinear):
        for name in ("gates_for", "turns_for", "ends_norm"):
            monkeypatch.setattr(kind, name, lambda *_: True)
        monkeypatch.setattr(kind, "begins_norm", lambda self, _: self.bias is None)
    monkeypatch.setattr(DenseLinear, "streams_for", lambda *_: True)
    monkeypatch.setattr(linear, "skinny_linear", multiplied)
    monkeypatch.setattr(linear, "grouped_linear", grouped_reference.grouped_linear)
    for oracle, name in ((reference, "skinny_add_linear"), (grouped_reference, "grouped_add_linear")):
        add = getattr(oracle, name)
        monkeypatch.setattr(linear, name, lambda *tensors, add=add: begun.append(1) or add(*tensors))
    monkeypatch.setattr(attention, "HEAD_DIMS", (32,))
    monkeypatch.setattr(linear, "skinny_rotary_write_kv", reference.skinny_rotary_write_kv)
    monkeypatch.setattr(linear, "grouped_rotary_write_kv", grouped_reference.grouped_rotary_write_kv)
    return begun


def multiplied(x, weight, bias=None, out=None, gate=None):
    """As skinny_linear."""
    product = reference.skinny_linear(x, weight, bias, gate).to(weight.dtype)
    return product if out is None else out.copy_(product)


def in_few_bits(decoder: Decoder, names: set[str]) -> Decoder:
    """The decoder with projections of such names by weights of few bits."""
    generator = torch.Generator().manual_seed(3)

    def of_few_bits(dense: DenseLinear) -> GroupedLinear:
        rows, width = dense.weight.shape
        values = torch.randint(-9, 10, (rows, width), generator=generator, dtype=torch.int8)
        return GroupedLinear(GroupedWeights(values, torch.full((rows, 1), 0.02), (1, width)))

    def changed(room):
        own = {name: each for name, each in vars(room).items() if name in names}
        return replace(room, **{name: of_few_bits(each) for name, each in own.items()})

    layers = (replace(each, attention=changed(each.attention), mlp=changed(each.mlp)) for each in decoder.stack.layers)
    return replace(decoder, stack=replace(decoder.stack, layers=tuple(layers)))


def test_products_of_few_bits_that_turn_queries_and_keys_bring_the_same(monkeypatch):
    decoder, turned = in_few_bits(random_decoder(PLAIN, "cpu", torch.float32), {"qkv"}), []
    expected = states_of_a_mix(decoder)
    monkeypatch.setattr(GroupedLinear, "turns_for", lambda *_: True)
    monkeypatch.setattr(attention, "HEAD_DIMS", (32,))
    monkeypatch.setattr(
        linear,
        "grouped_rotary_write_kv",
        lambda *tensors: turned.append(1) or grouped_reference.grouped_rotary_write_kv(*tensors),
    )
    torch.testing.assert_close(states_of_a_mix(decoder), expected)
    assert len(turned) == PLAIN.num_layers


@pytest.mark.parametrize("device", DEVICES)
def test_one_size_after_another_in_the_same_memory(device):
    decoder = random_decoder(PLAIN, device, torch.float32)
    tables = np.arange(BLOCKS, dtype=np.int32).reshape(1, 1, BLOCKS)
    cache = random_cache(decoder, 1)
    plain_cache = cache.clone()
    with torch.inference_mode():
        graphs = pieces_of(decoder, cache, 128)
        while graphs.capture_next():
            pass
        for start, count in [(0, 100), (100, 1), (101, 16), (117, 100), (217, 3)]:
            slices = [Slice(0, start, [(start + one) % 300 for one in range(count)])]
            expected = decoder.forward(build_batch(slices, tables, BLOCK, cache.device), plain_cache)
            found = graphs.forward(build_batch(slices, tables, BLOCK, cache.device, size=graphs.size_for(count)))
            torch.testing.assert_close(found[:count], expected, rtol=0, atol=1e-4)


def test_a_token_that_only_the_device_knows_is_in_its_place():
    tables = np.arange(3 * BLOCKS, dtype=np.int32).reshape(1, 3, BLOCKS)
    slices = [Slice(0, 0, [5, 6, 7]), Slice(1, 9, [UNKNOWN]), Slice(2, 30, [UNKNOWN])]
    newest = torch.tensor([-7, 41, 42, -7])
    batch = build_batch(slices, tables, BLOCK, torch.device("cpu"), newest, 16)
    assert batch.token_ids.tolist() == [42, 41, 5, 6, 7] + [0] * 11
    assert batch.slots[0, 5:].tolist() == [-1] * 11


def test_sizes_that_serve_many_steps_are_captured_first():
    decoder = random_decoder(PLAIN, "cpu", torch.float32)
    graphs = TokenGraphs(decoder, random_cache(decoder, 1), None, 8192)
    assert graphs.size_for(100) is None
    assert graphs.capture_next()
    assert [graphs.size_for(count) for count in (1, 256, 257)] == [256, 256, None]
    for _ in range(3):
        graphs.capture_next()
    assert [graphs.size_for(count) for count in (100, 257, 1100, 2048, 2049)] == [256, 512, 2048, 2048, None]
    turns = 4
    while graphs.capture_next():
        turns += 1
    assert turns == len(SIZES)
    for count in range(1, 2049):
        assert graphs.size_for(count) == padded_tokens(count)


def test_no_size_is_larger_than_any_step():
    decoder = random_decoder(PLAIN, "cpu", torch.float32)
    graphs = TokenGraphs(decoder, random_cache(decoder, 1), None, 100)
    assert graphs.capture_next()
    assert graphs.size_for(100) == 112
    while graphs.capture_next():
        pass
    assert max(graphs._captured) == 112


def test_the_planner_counts_what_crosses_from_piece_to_piece():
    spec = find_spec("Llama-3.1-8B")
    decoder = build_decoder(spec, lambda _, shape: torch.zeros(shape, device="meta"), torch.device("meta"), torch.half)
    cache = torch.zeros(spec.num_layers, 2, 1, BLOCK, spec.num_kv_heads, spec.head_dim, dtype=torch.half, device="meta")
    graphs = TokenGraphs(decoder, cache, None, 8192)
    held = sum(tensor.nbytes for tensor in graphs._tensors[3:])
    config = EngineConfig(model="m", dtype="float16", max_num_seqs=1)
    arena = arena_elements(spec, 1, MOST_CAPTURED_TOKENS, 2) * 2
    assert held + arena < graph_bytes(spec, config) < held + arena + 2**29


PARAMS = {
    "greedy": SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True),
    "seeded": SamplingParams(temperature=0.8, seed=5, max_tokens=20, ignore_eos=True),
    "with logprobs": SamplingParams(temperature=0.7, seed=1, logprobs=2, prompt_logprobs=1, max_tokens=12),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(SHAPES["3 heads of 64, tied"], folder)
    return folder


def with_pieces(engine):
    """The engine as a GPU's is, all sizes captured."""
    runner = engine._executor
    cache, tables, budget = runner._kv_cache.device, runner._rows.block_tables, runner.max_num_batched_tokens
    arena = reserve(runner.spec, cache, padded_size(tables.shape[1]), padded_tokens(budget))
    runner._graphs = DecodeGraphs(runner._decoder, cache, runner._sampler.hashes, *tables.shape[1:], arena)
    runner._token_graphs = TokenGraphs(runner._decoder, cache, arena, budget)
    while engine.prepare_some():
        pass
    return engine


def without_pieces(engine):
    engine._executor._graphs = engine._executor._token_graphs = None
    return engine


@pytest.mark.parametrize("budget", [16, 100, 512])
@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("device", DEVICES)
def test_engines_draw_the_same_tokens(folder, params, budget, device):
    """One of them one step ahead, so that decodes beside prompts go on from tokens that only the device knows."""
    make = partial(make_engine, folder, device=device, swap_space="1Mi", max_num_batched_tokens=budget, max_num_seqs=8)
    prompts = random_prompts(1, 5, 16, 17, 60, 150, 33, 90, 2)
    pieces, plain = (
        [tokens_of(one) for one in run(turn(make()), prompts, PARAMS[params])] for turn in (with_pieces, without_pieces)
    )
    assert pieces == plain


def test_all_steps_with_prompts_take_this_way(folder, monkeypatch):
    engine = with_pieces(make_engine(folder, max_num_batched_tokens=64, max_num_seqs=8))
    monkeypatch.setattr(Decoder, "forward", None)
    monkeypatch.setattr(DecodeGraphs, "run", None)
    engine.add_request("0", list(range(150)), SamplingParams(max_tokens=1))
    while engine.has_work:
        outputs = engine.step()
    assert [len(output.token_ids) for output in outputs] == [1]
