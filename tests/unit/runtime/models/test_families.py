"""Every family on each device, a GPU with the Triton forms of all operations, against transformers in float32: to the
token in float32, to rounding in bf16."""

from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_models import ENCODERS, save_encoder
from expert_models import EXPERT_FAMILIES
from family_models import FAMILIES, random
from latent_models import LATENT_FAMILIES
from small_models import check_greedy, in_chunks, load_decoder, make_engine, random_prompts, run, tokens_of
from transformers import PreTrainedModel

from octavo_runtime.engine.engine import Engine
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
CUDA = [pytest.param("cuda", marks=pytest.mark.gpu)]  # tests of the CPU in float32 say more
GREEDY = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)
LENGTHS = (1, 5, 17, 40, 90)  # beyond all windows, and in several steps
ROUNDING = 0.05
"""How much of a position's scores rounding may change, as a share of their length: at least twice what it does."""


@pytest.fixture
def model(family: str, tmp_path: Path) -> PreTrainedModel:
    """A family's random model, on disk too. Its weights are numbers of bf16, so that only what is computed is
    rounded."""
    found = random(FAMILIES[family])
    with torch.no_grad():
        for tensor in found.state_dict().values():
            tensor.copy_(tensor.bfloat16())
    found.save_pretrained(tmp_path)
    return found


def engine_of(folder: Path, device: str, dtype: str) -> Engine:
    """In steps of few tokens: prompts in chunks, beside decodes."""
    return make_engine(folder, device=device, dtype=dtype, max_model_len=256, max_num_batched_tokens=64, max_num_seqs=8)


def assert_rounded(family: str, differences: torch.Tensor, most: float) -> None:
    """No position may differ by more; of a mixture one in five may. Its router chooses: where two experts nearly tie, a
    rounded state may go to the other one. That it goes wrong nowhere else is what the tokens in float32 say."""
    routes = family in EXPERT_FAMILIES or family in LATENT_FAMILIES
    found = differences.quantile(0.8) if routes else differences.max()
    assert found <= most


@pytest.mark.parametrize("device", CUDA)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers(model, family, device, tmp_path):
    prompts = random_prompts(*LENGTHS)
    for prompt, outputs in zip(prompts, run(engine_of(tmp_path, device, "float32"), prompts, GREEDY), strict=True):
        answer = tokens_of(outputs)
        assert len(answer) == GREEDY.max_tokens
        check_greedy(model, prompt, answer)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_in_bf16_scores_differ_by_rounding_alone(model, family, device, tmp_path):
    decoder, [prompt] = load_decoder(tmp_path, torch.bfloat16, device, max_model_len=256), random_prompts(60)
    found = decoder.logits(in_chunks(decoder, prompt)).cpu()
    expected = model(torch.tensor([prompt])).logits[0]
    assert_rounded(family, (found - expected).norm(dim=1) / expected.norm(dim=1), ROUNDING)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_in_bf16_greedy_tokens_are_about_the_best(model, family, device, tmp_path):
    """With all graphs of a GPU. Of some hundred words with scores that rounding moves by up to a twentieth of their
    spread, one that is taken for the best is a few times that below it."""
    engine, prompts = engine_of(tmp_path, device, "bfloat16"), random_prompts(*LENGTHS)
    while engine.prepare_some():
        pass
    missed = []
    for prompt, outputs in zip(prompts, run(engine, prompts, GREEDY), strict=True):
        answer = torch.tensor(tokens_of(outputs))
        scores = model(torch.tensor([prompt + answer.tolist()])).logits[0, len(prompt) - 1 : -1]
        chosen = scores.gather(1, answer[:, None])[:, 0]
        missed.append((scores.amax(1) - chosen) / scores.std(1))
    assert_rounded(family, torch.cat(missed), 4 * ROUNDING)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ENCODERS)
@torch.inference_mode()
def test_vectors_of_encoders_equal_transformers(name, device, tmp_path):
    theirs = save_encoder(name, tmp_path)
    prompts = [[max(token, 5) for token in prompt] for prompt in random_prompts(1, 2, 64, 33, 17, 5)]  # 1 is padding
    expected = [theirs(torch.tensor([prompt])).last_hidden_state[0].mean(0) for prompt in prompts]
    for dtype, least in (("float32", 1 - 1e-5), ("bfloat16", 0.99)):
        engine = make_engine(tmp_path, device=device, dtype=dtype, max_num_seqs=8, max_num_batched_tokens=40)
        for number, prompt in enumerate(prompts):
            engine.add_embedding(str(number), prompt, PoolingParams(pooling="mean", normalize=False))
        found: dict[int, torch.Tensor] = {}
        while engine.has_work:
            for output in engine.step():
                found[int(output.request_id)] = torch.from_numpy(np.frombuffer(output.embedding, "<f4").copy())
        for number, vector in enumerate(expected):
            assert torch.cosine_similarity(found[number], vector, dim=0) >= least
