"""Small random models of the supported families, from safetensors, against transformers in float32."""

import numpy as np
import pytest
import torch
from family_models import FAMILIES, save
from latent_models import LATENT_FAMILIES
from small_models import cache_shape, in_groups, random_prompts, run, tokens_of

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.tensor_shapes import tensor_shapes
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.planning.kv_cache import kv_bytes_per_block, sequence_blocks
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import Slice
from octavo_runtime.worker.batch import build_batch

CPU = torch.device("cpu")
# Tokens of each row in each step: prompts whole and in chunks, beside single tokens.
STEPS = [{0: 60, 1: 5, 2: 1}, {0: 1, 1: 40, 2: 30}, {0: 20, 1: 1, 2: 1}, {0: 1, 1: 1, 2: 1}, {0: 1, 1: 30, 2: 4}]
LENGTHS = {row: sum(step[row] for step in STEPS) for row in range(3)}
BLOCK, BLOCKS = 8, 12


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_scores_equal_transformers(family, tmp_path):
    theirs = save(FAMILIES[family], tmp_path, spread=0.2)
    ours = load_model(EngineConfig(model=str(tmp_path), max_model_len=256), locate(str(tmp_path)), CPU, torch.float32)
    ours.reach(BLOCK * BLOCKS)
    spec, prompts = ours.spec, random_prompts(*LENGTHS.values())
    tables = np.random.default_rng(0).permutation(3 * BLOCKS).astype(np.int32).reshape(3, BLOCKS)
    cache = torch.full(cache_shape(spec, 3 * BLOCKS, BLOCK), torch.nan)
    found: dict[int, list[torch.Tensor]] = {row: [] for row in LENGTHS}
    done = dict.fromkeys(LENGTHS, 0)
    for step in STEPS:
        slices = [Slice(row, done[row], prompts[row][done[row] : done[row] + count]) for row, count in step.items()]
        batch = build_batch(slices, in_groups(spec, tables, 3 * BLOCKS), BLOCK, CPU)
        scores = ours.logits(ours.forward(batch, cache))
        for item, first, last in zip(slices, batch.first_tokens, batch.last_tokens, strict=True):
            found[item.row].append(scores[first : last + 1])
            done[item.row] += len(item.token_ids)
    for row, prompt in enumerate(prompts):
        expected = theirs(torch.tensor([prompt])).logits[0]
        torch.testing.assert_close(torch.cat(found[row]), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers_in_chunks_with_a_prefix_and_preempted(family, tmp_path):
    model = save(FAMILIES[family], tmp_path)
    spec = spec_from_folder(tmp_path)
    windows = group_windows(spec)
    blocks = sequence_blocks(windows, 16, 256, 64) + 8  # of one sequence and half of another
    engine = Engine(
        EngineConfig(
            model=str(tmp_path),
            device="cpu",
            dtype="float32",
            kv_cache_memory=str(kv_bytes_per_block(spec, 16, 4) * blocks),
            max_model_len=256,
            max_num_batched_tokens=64,
            preemption_mode="recompute",
        )
    )
    [shared] = random_prompts(70, seed=2)
    prompts = [*random_prompts(1, 5, 16, 17, 90, 200), shared[:66], shared, shared[:50] + shared[:30]]
    prompts += random_prompts(*range(1, 42), seed=3)
    assert len(prompts) == 50
    greedy = SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True)
    answers = [tokens_of(outputs) for outputs in run(engine, prompts, greedy)]
    answers += [tokens_of(outputs) for outputs in run(engine, [shared + shared[:9]], greedy)]
    assert engine.load.recomputes > 0
    assert engine.load.prefix_hits > 0
    for prompt, answer in zip([*prompts, shared + shared[:9]], answers, strict=True):
        whole = torch.tensor([prompt + answer])
        with torch.inference_mode():
            scores = model(whole).logits[0, len(prompt) - 1 : -1]
        assert scores.argmax(-1).tolist() == answer


HALF = (
    *("mistral, window", "gemma 2", "gemma 3", "phi 3, longrope", "olmo 2", "command r7b", "starcoder 2", "stablelm"),
    *("deepseek v2", "deepseek v3", "minicpm 3"),
)


@pytest.mark.parametrize("family", HALF)
@torch.inference_mode()
def test_in_16_bits_scores_are_about_as_exact_as_transformers(family, tmp_path):
    theirs = save(FAMILIES[family], tmp_path)
    ours = load_model(EngineConfig(model=str(tmp_path), max_model_len=256), locate(str(tmp_path)), CPU, torch.bfloat16)
    ours.reach(BLOCK * BLOCKS)
    spec, [prompt] = ours.spec, random_prompts(60)
    exact = theirs(torch.tensor([prompt])).logits[0]
    rounded = theirs.to(torch.bfloat16)(torch.tensor([prompt])).logits[0].float()
    cache, tables = (
        torch.zeros(cache_shape(spec, BLOCKS, BLOCK), dtype=torch.bfloat16),
        in_groups(spec, np.arange(BLOCKS, dtype=np.int32)[None], BLOCKS),
    )
    parts = [Slice(0, 0, prompt[:40]), Slice(0, 40, prompt[40:41]), Slice(0, 41, prompt[41:])]
    found = torch.cat([ours.logits(ours.forward(build_batch([part], tables, BLOCK, CPU), cache)) for part in parts])
    assert (found - exact).abs().max() < 1.5 * (rounded - exact).abs().max()


def test_eos_ends_an_answer_and_ignore_eos_does_not(tmp_path):
    save(FAMILIES["llama"], tmp_path)
    engine = Engine(EngineConfig(model=str(tmp_path), device="cpu", dtype="float32", kv_cache_memory="16Mi"))

    def run(params: SamplingParams) -> tuple[list[int], str | None]:
        engine.add_request("r", [1, 2, 3], params)
        outputs = []
        while engine.has_work:
            outputs += engine.step()
        return [token for output in outputs for token in output.token_ids], outputs[-1].finish_reason

    tokens, reason = run(SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True))
    assert (len(tokens), reason) == (20, "length")
    stop_at = tokens[7]
    tokens_again, reason = run(SamplingParams(temperature=0.0, stop_token_ids=(stop_at,), ignore_eos=True))
    assert (tokens_again, reason) == (tokens[: tokens.index(stop_at) + 1], "stop")
    _, reason = run(SamplingParams(temperature=0.0, ignore_eos=True))
    assert reason == "length"
    assert engine.load.blocks_used == 0


def test_missing_and_misshapen_tensors_are_named(tmp_path):
    save(FAMILIES["llama"], tmp_path)
    folder = SafetensorsFolder(locate(str(tmp_path)).folder)
    with pytest.raises(UnsupportedModel, match=r"no tensor model\.absent\.weight"):
        folder.read("model.absent.weight", (1,))
    with pytest.raises(UnsupportedModel, match=r"model.norm.weight: shape must be \(95,\), got \(96,\)"):
        folder.read("model.norm.weight", (95,))
    assert spec_from_folder(tmp_path).eos_token_ids == (299,)


def test_dummy_weights_serve_a_shape_without_a_checkpoint(tmp_path):
    FAMILIES["llama"].architectures = ["LlamaForCausalLM"]
    FAMILIES["llama"].save_pretrained(tmp_path)
    engine = Engine(EngineConfig(model=str(tmp_path), device="cpu", load_format="dummy", kv_cache_memory="16Mi"))
    engine.add_request("r", [1, 2, 3], SamplingParams(max_tokens=5, ignore_eos=True))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    assert len(outputs) == 5


@pytest.mark.parametrize(
    "family",
    [
        *("llama, tied embeddings", "llama, biases", "qwen 2 moe", "granite moe, shared", "ernie 4.5 moe", "phi moe"),
        *("command r plus", "stablelm, 12b"),
        *LATENT_FAMILIES,
    ],
)
def test_the_tensors_that_are_checked_are_those_that_are_read(family, tmp_path):
    save(FAMILIES[family], tmp_path)
    spec, read = spec_from_folder(tmp_path), {}

    def note(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        read[name] = shape
        return torch.zeros(shape)

    build_decoder(spec, note, torch.device("cpu"), torch.float32)
    assert tensor_shapes(spec) == read
