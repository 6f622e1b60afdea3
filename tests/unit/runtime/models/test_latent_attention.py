"""Latent attention: mistakes that would show, forks, beams and swapped blocks against transformers, what is expanded at
once, what is planned, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from family_models import save
from latent_models import LATENT_FAMILIES
from safetensors.torch import load_file, save_file
from small_models import EOS, cache_shape, in_chunks, load_decoder, make_engine, random_prompts, run, tokens_of
from transformers import DeepseekV2Config, DeepseekV3Config, Glm4MoeLiteConfig, MiniCPM3Config, YoutuConfig

from octavo_runtime.layers import expansion_bounds, router
from octavo_runtime.layers.batch import PrefillInputs
from octavo_runtime.layers.expansion_bounds import expanded_size, heads_at_once, most_elements, tokens_together
from octavo_runtime.layers.latent_attention import LatentAttention
from octavo_runtime.layers.latent_expansion import plan_expansions
from octavo_runtime.layers.rope_scaling import YarnRope
from octavo_runtime.layers.router import Router
from octavo_runtime.models.loading.config_json import spec_from_config, spec_from_folder
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.tensor_shapes import tensor_shapes
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.planning.kv_cache import kv_bytes_per_block
from octavo_runtime.planning.parameters import weight_bytes
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import Slice
from octavo_runtime.worker.batch import build_batch
from octavo_runtime.worker.kv_cache import KVCache

CPU = torch.device("cpu")
BLOCK = 8
PROMPTS = random_prompts(60, 37, 9)
V3 = "deepseek v3"


@cache
def saved(family: str) -> tuple[dict[str, torch.Tensor], ModelSpec, torch.Tensor]:
    """A random model's tensors, its spec, and transformers' scores of the prompts, one behind another."""
    with TemporaryDirectory() as folder:
        model = save(LATENT_FAMILIES[family], Path(folder), spread=0.2)
        with torch.inference_mode():
            expected = torch.cat([model(torch.tensor([prompt])).logits[0] for prompt in PROMPTS])
        return load_file(Path(folder) / "model.safetensors"), spec_from_folder(Path(folder)), expected


def difference(family: str, change: Callable[[ModelSpec], ModelSpec] = lambda spec: spec) -> float:
    """From transformers' scores, as a share of the largest: of all tokens of the prompts, computed in two chunks and a
    single token."""
    tensors, spec, expected = saved(family)
    decoder = build_decoder(change(spec), lambda name, _: tensors[name], CPU, torch.float32)
    decoder.reach(64)
    tables = np.random.default_rng(0).permutation(24).astype(np.int32).reshape(1, 3, 8)
    kv_cache = torch.full(cache_shape(decoder.spec, 24, BLOCK), torch.nan)
    found: list[list[torch.Tensor]] = [[], [], []]
    with torch.inference_mode():
        for cut in (lambda size: (0, size // 2), lambda size: (size // 2, size - 1), lambda size: (size - 1, size)):
            spans = [cut(len(prompt)) for prompt in PROMPTS]
            slices = [Slice(row, first, PROMPTS[row][first:last]) for row, (first, last) in enumerate(spans)]
            batch = build_batch(slices, tables, BLOCK, CPU)
            scores = decoder.logits(decoder.forward(batch, kv_cache))
            for row, first, last in zip(found, batch.first_tokens, batch.last_tokens, strict=True):
                row.append(scores[first : last + 1])
    return float((torch.cat([torch.cat(row) for row in found]) - expected).abs().max() / expected.abs().max())


def routed(**fields: object) -> Callable[[ModelSpec], ModelSpec]:
    def change(spec: ModelSpec) -> ModelSpec:
        assert spec.experts is not None
        return replace(spec, experts=replace(spec.experts, routing=replace(spec.experts.routing, **fields)))

    return change


def with_amplitude(amplitude: float) -> Callable[[ModelSpec], ModelSpec]:
    def change(spec: ModelSpec) -> ModelSpec:
        assert isinstance(spec.rope_scaling, YarnRope)
        return replace(spec, rope_scaling=replace(spec.rope_scaling, attention_factor=amplitude))

    return change


def without_biases(spec: ModelSpec) -> ModelSpec:
    assert spec.latent is not None
    return replace(spec, latent=replace(spec.latent, has_biases=False))


MISTAKES: dict[str, tuple[str, Callable[[ModelSpec], ModelSpec]]] = {
    "YaRN's scale left out of the scores": (V3, lambda spec: replace(spec, attention_scale=None)),
    "YaRN's scale in the scores once instead of squared": (
        V3,
        lambda spec: replace(spec, attention_scale=(spec.attention_scale * spec.head_dim**-0.5) ** 0.5),
    ),
    "a rotary embedding with the whole of YaRN's factor": (V3, with_amplitude(1.37)),
    "halves turned instead of neighbours": (V3, lambda spec: replace(spec, interleaved_rope=False)),
    "halves turned instead of neighbours, V2": ("deepseek v2", lambda spec: replace(spec, interleaved_rope=False)),
    "neighbours turned instead of halves": ("minicpm 3", lambda spec: replace(spec, interleaved_rope=True)),
    "rope as it is not told": (
        "deepseek v3, direct queries, plain weights",
        lambda spec: replace(spec, interleaved_rope=True),
    ),
    "no groups": (V3, routed(groups=1, top_groups=1)),
    "groups by their best": (V3, routed(group_best=1)),
    "groups by their two best": ("deepseek v2", routed(group_best=2)),
    "no groups, V2": ("deepseek v2", routed(groups=1, top_groups=1)),
    "renormalised weights": ("deepseek v2", routed(renormalises=True)),
    "weights that are not renormalised": (V3, routed(renormalises=False)),
    "no correction": (V3, routed(has_correction=False)),
    "no scale of the weights": ("deepseek v2", routed(scale=1.0)),
    "biases left out": ("deepseek v3, biases", without_biases),
    "branches as they are": ("minicpm 3", lambda spec: replace(spec, residual_multiplier=1.0)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_would_show(mistake):
    family, change = MISTAKES[mistake]
    assert difference(family) < 1e-5
    assert difference(family, change) > 1e-3


def test_a_correction_in_the_weights_would_show(monkeypatch):
    route = Router.__call__

    def corrected(router: Router, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ids, weights = route(router, hidden)
        assert router.correction is not None
        return ids, weights + router.correction[ids]

    monkeypatch.setattr(Router, "__call__", corrected)
    assert difference(V3) > 1e-2


@torch.inference_mode()
def test_zeros_for_experts_outside_the_best_groups_would_show(monkeypatch, tmp_path):
    """Where a correction brings scores below zero, which small random ones do not."""
    theirs, prompt = save(LATENT_FAMILIES[V3], tmp_path, spread=0.2), PROMPTS[0]
    for name, tensor in theirs.state_dict().items():
        if name.endswith("e_score_correction_bias"):
            tensor.sub_(2.0)
    theirs.save_pretrained(tmp_path)
    expected = theirs(torch.tensor([prompt])).logits[0]

    def furthest() -> float:
        decoder = load_decoder(tmp_path, torch.float32)
        return float((decoder.logits(in_chunks(decoder, prompt)) - expected).abs().max() / expected.abs().max())

    assert furthest() < 1e-5
    within = router._within_groups
    monkeypatch.setattr(router, "_within_groups", lambda *given: within(*given).nan_to_num(neginf=0.0))
    assert furthest() > 1e-2


def test_latents_that_are_not_normalised_would_show(monkeypatch):
    def project(attention: LatentAttention, hidden: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        plain = replace(attention, latent_norm=lambda latent: latent.contiguous())
        return original(plain, hidden, *more)

    original = LatentAttention.project
    monkeypatch.setattr(LatentAttention, "project", project)
    assert difference("deepseek v2 lite") > 1e-2


@pytest.mark.parametrize("family", ["deepseek v2", "deepseek v2 lite"])
@pytest.mark.parametrize("most", [1, 3000, 20_000])
def test_however_little_is_expanded_at_once_the_scores_are_the_same(family, most, monkeypatch):
    sizes = []
    expand = LatentAttention._expanded

    def expanded(attention: LatentAttention, latents: torch.Tensor, heads: slice) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = expand(attention, latents, heads)
        sizes.append(keys.shape)
        return keys, values

    monkeypatch.setattr(expansion_bounds, "_MOST_ELEMENTS", most)
    monkeypatch.setattr(LatentAttention, "_expanded", expanded)
    assert difference(family) < 1e-5
    size = expanded_size(32, 12, 18)
    for blocks, _, heads, _ in sizes:
        assert heads == 1 or blocks * BLOCK * heads * size <= most
    assert max(blocks * BLOCK * heads * size for blocks, _, heads, _ in sizes) <= most_elements(64, size)


@pytest.mark.parametrize("tokens", [[16], [8, 8, 8], [4000, 8, 8, 8], [8, 4000, 8], [300, 300, 300, 300]])
def test_sequences_are_expanded_together_up_to_a_bound(tokens, monkeypatch):
    size = 100
    monkeypatch.setattr(expansion_bounds, "_MOST_ELEMENTS", 8 * size * 640)
    lengths = np.array([[3, count] for count in tokens])
    tables = torch.arange(len(tokens) * 500, dtype=torch.int32).view(1, len(tokens), 500)
    starts = torch.arange(len(tokens) + 1, dtype=torch.int32) * 3
    prefill = PrefillInputs(tables.unbind(), torch.tensor(tokens, dtype=torch.int32), starts, 3, lengths)
    plans = plan_expansions(prefill, torch.zeros(1, 8, 20), 16, 24, size)
    assert [row for plan in plans for row in range(plan.queries.start, plan.queries.stop)] == list(
        range(len(starts) * 3 - 3)
    )
    blocks = torch.cat([plan.blocks for plan in plans])
    assert blocks.tolist() == [500 * row + block for row, count in enumerate(tokens) for block in range(-(-count // 8))]
    for plan in plans:
        assert len(plan.seq_lens) == 1 or len(plan.blocks) * 8 <= tokens_together(size)
        assert plan.heads == heads_at_once(len(plan.blocks) * 8, size, 16)
        for table, length in zip(plan.block_tables, plan.seq_lens.tolist(), strict=True):
            assert table[: -(-length // 8)].tolist() == list(range(table[0], table[0] + -(-length // 8)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return folder, save(LATENT_FAMILIES[V3], folder, spread=0.1)


def test_swapped_blocks_and_forks_change_no_token(model):
    folder, reference = model
    block = kv_bytes_per_block(spec_from_folder(folder), 16, 4)
    tight = {"kv_cache_memory": f"{12 * block // 1024 + 1}Ki", "swap_space": "1Mi", "max_model_len": 190}
    prompts = random_prompts(1, 5, 16, 17, 60, 150)
    greedy = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
    engine = make_engine(folder, **tight, preemption_mode="swap")
    for prompt, outputs in zip(prompts, run(engine, prompts, greedy), strict=True):
        answer = tokens_of(outputs)
        with torch.inference_mode():
            scores = reference(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        assert scores.argmax(-1).tolist() == answer
    assert engine.load.swaps > 0
    drawn = SamplingParams(n=3, seed=7, max_tokens=12, ignore_eos=True)
    plain, forked = (
        run(make_engine(folder, **more), random_prompts(5, 33), drawn) for more in ({}, {**tight, "max_num_seqs": 2})
    )
    for one, other in zip(plain, forked, strict=True):
        assert [tokens_of(one, index) for index in range(3)] == [tokens_of(other, index) for index in range(3)]


def test_beams_equal_transformers(model):
    folder, reference = model
    for prompt in random_prompts(3, 40, seed=5):
        params = SamplingParams(n=3, beam_width=4, max_tokens=10)
        [outputs] = run(make_engine(folder), [prompt], params)
        expected = reference.generate(
            torch.tensor([prompt]),
            num_beams=4,
            num_return_sequences=3,
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=EOS,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        for output, sequence, score in zip(outputs, expected.sequences, expected.sequences_scores, strict=True):
            assert output.score == pytest.approx(score.item(), abs=1e-4)
            assert output.token_ids == sequence[len(prompt) :].tolist()[: len(output.token_ids)]


@pytest.mark.parametrize("family", LATENT_FAMILIES)
def test_what_is_planned_is_what_is_held(family):
    tensors, spec, _ = saved(family)
    decoder = build_decoder(spec, lambda name, _: tensors[name], CPU, torch.float32)
    assert decoder.num_bytes == weight_bytes(spec, 4, "cpu")
    held = KVCache(spec, 5, 2, 16, CPU, torch.bfloat16)
    assert held.block_bytes == kv_bytes_per_block(spec, 16, 2)
    assert held.device.nbytes == 5 * held.block_bytes
    assert held.host.nbytes == 2 * held.block_bytes
    assert spec.latent is not None
    assert kv_bytes_per_block(spec, 1, 2) == spec.num_layers * (spec.latent.rank + 12) * 2


@pytest.mark.parametrize(
    "theirs",
    [DeepseekV2Config(num_experts_per_tok=6), DeepseekV3Config(), Glm4MoeLiteConfig(), MiniCPM3Config(), YoutuConfig()],
)
def test_what_is_left_out_has_transformers_default(theirs):
    needed = {"deepseek_v2": {"num_experts_per_tok": 6}}
    spec = spec_from_config({"model_type": theirs.model_type, **needed.get(theirs.model_type, {})})
    assert (spec.vocab_size, spec.hidden_size) == (theirs.vocab_size, theirs.hidden_size)
    assert (spec.intermediate_size, spec.num_layers) == (theirs.intermediate_size, theirs.num_hidden_layers)
    assert (spec.num_heads, spec.max_position) == (theirs.num_attention_heads, theirs.max_position_embeddings)
    assert (spec.head_dim, spec.rotated) == (theirs.qk_head_dim, theirs.qk_rope_head_dim)
    assert (spec.rms_norm_eps, spec.tie_embeddings) == (theirs.rms_norm_eps, theirs.tie_word_embeddings)
    assert spec.latent is not None
    assert (spec.latent.rank, spec.latent.query_rank) == (theirs.kv_lora_rank, theirs.q_lora_rank)
    assert (spec.latent.value_dim, spec.latent.has_biases) == (theirs.v_head_dim, theirs.attention_bias)
    assert spec.interleaved_rope == getattr(theirs, "rope_interleave", theirs.model_type == "deepseek_v2")
    if spec.experts is None:
        return
    routing, first = spec.experts.routing, getattr(theirs, "first_k_dense_replace", 1)
    assert routing.num_experts == theirs.n_routed_experts
    assert routing.top_k == theirs.num_experts_per_tok
    assert (routing.groups, routing.top_groups) == (theirs.n_group or 1, theirs.topk_group or 1)
    assert (routing.scale, routing.renormalises) == (theirs.routed_scaling_factor, theirs.norm_topk_prob)
    assert spec.experts.intermediate_size == theirs.moe_intermediate_size
    assert spec.experts.shared_size == theirs.n_shared_experts * theirs.moe_intermediate_size
    assert spec.expert_layers == set(range(first, spec.num_layers))


def test_every_second_layer_may_have_experts():
    fields = {"model_type": "deepseek_v3", "num_hidden_layers": 8, "moe_layer_freq": 2}
    assert spec_from_config(fields).expert_layers == {4, 6}


def test_kimi_k2_is_a_deepseek_v3():
    fields = {"model_type": "kimi_k2", "architectures": ["DeepseekV3ForCausalLM"], "num_nextn_predict_layers": 0}
    spec = spec_from_config(fields)
    assert spec.latent is not None
    assert spec.unread == ()


def test_what_predicts_a_further_token_is_passed_over(tmp_path):
    tensors, spec, _ = saved(V3)
    further = {f"model.layers.3.{name}.weight": torch.zeros(1) for name in ("eh_proj", "shared_head.head", "enorm")}
    save_file({**tensors, **further}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    SafetensorsFolder(tmp_path, spec.unread).check(tensor_shapes(spec))
    save_file({**tensors, "model.layers.4.eh_proj.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedModel, match=r"does not read: model\.layers\.4\.eh_proj\.weight$"):
        SafetensorsFolder(tmp_path, spec.unread).check(tensor_shapes(spec))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"model_type": "deepseek_v2", "topk_method": "noaux_tc"},
            "topk_method must be greedy or group_limited_greedy",
        ),
        (
            {"model_type": "deepseek_v2", "norm_topk_prob": True},
            "norm_topk_prob must be False for deepseek_v2, got True",
        ),
        ({"model_type": "deepseek_v2", "scoring_func": "sigmoid"}, "scoring_func must be softmax, got sigmoid"),
        ({"model_type": "deepseek_v3", "scoring_func": "softmax"}, "scoring_func must be sigmoid, got softmax"),
        ({"model_type": "deepseek_v3", "topk_method": "greedy"}, "topk_method must be noaux_tc, got greedy"),
        ({"model_type": "deepseek_v3", "v_head_dim": 193}, r"v_head_dim must be at most .* \(192\), got 193"),
        ({"model_type": "deepseek_v3", "qk_rope_head_dim": 63}, "head_dim must be even"),
        ({"model_type": "deepseek_v3", "kv_lora_rank": 0}, "kv_lora_rank"),
        ({"model_type": "glm4_moe_lite", "mlp_layer_types": ["dense"]}, r"must have num_hidden_layers \(47\) entries"),
        (
            {"model_type": "glm4_moe_lite", "num_hidden_layers": 1, "mlp_layer_types": ["thick"]},
            "mlp_layer_types must be of dense and sparse, got thick",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fields, words):
    with pytest.raises(UnsupportedModel, match=words) as raised:
        spec_from_config(fields)
    assert "\n" not in str(raised.value)
