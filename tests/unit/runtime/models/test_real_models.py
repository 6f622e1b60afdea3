"""Real models against transformers on the same weights: those that packages carry, and those in the folder that
OCTAVO_TEST_MODELS names (GGUF files, and folders of safetensors that transformers reads)."""

import os
from collections.abc import Callable
from functools import partial
from inspect import getsource
from pathlib import Path

import pytest
import torch
from kept_losses import kept_losses
from real_models import MODELS, fetched
from transformers import AutoModelForCausalLM

from octavo_runtime.llm import LLM
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.gguf_file import GGUFFile
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.text.chat_template import load_chat_template
from octavo_runtime.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow
PROMPTS = ("The capital of France is", "def quick_sort(items):\n    ", "1, 2, 3, 4, 5, 6, 7, 8, 9,")
GREEDY = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
CLOSE = 1e-3  # of scores in float32, of which either may be taken
ROUNDED = 0.5  # by how much packed weights and 16-bit sums may move a score


def answers(path: Path, dtype: str) -> list[list[int]]:
    """Prompts and answers in tokens."""
    llm = LLM(model=str(path), device="cpu", dtype=dtype, kv_cache_memory="32Mi", max_model_len=256)
    return [[*output.prompt_token_ids, *output.outputs[0].token_ids] for output in llm.generate(list(PROMPTS), GREEDY)]


@torch.inference_mode()
def losses(path: Path, sequences: list[list[int]]) -> list[float]:
    """By how much the score of any token of an answer is lower than the best one's, as transformers computes them."""
    where = {"gguf_file": path.name} if path.is_file() else {}
    model = AutoModelForCausalLM.from_pretrained(path.parent if path.is_file() else path, dtype=torch.float32, **where)
    found = []
    for tokens in sequences:
        scores = model(torch.tensor([tokens])).logits[0, -GREEDY.max_tokens - 1 : -1]
        chosen = scores.gather(1, torch.tensor(tokens[-GREEDY.max_tokens :]).unsqueeze(1))
        found.append(float((scores.amax(dim=1, keepdim=True) - chosen).max()))
    return found


def compare(path: Path, losses_of: Callable[[list[list[int]]], list[float]]) -> None:
    exact, packed = answers(path, "float32"), answers(path, "auto")
    found = losses_of([*exact, *packed])
    assert len(found) == 2 * len(PROMPTS)
    assert max(found[: len(PROMPTS)]) <= CLOSE
    assert max(found[len(PROMPTS) :]) <= ROUNDED


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.file)
def test_greedy_answers_are_transformers(model):
    """transformers takes a minute for each, so what it said of the same answers is kept."""
    path = fetched(model)

    def kept(answers: list[list[int]]) -> list[float]:
        depends_on = [model.sha256, answers, GREEDY.max_tokens, getsource(losses)]
        return kept_losses(path, depends_on, lambda: losses(path, answers))

    compare(path, kept)


def test_qwen_2_5_reads_a_conversation_as_published():
    """The tokens that Qwen's own tokenizer makes of its template, the default system prompt in it."""
    path = fetched(next(model for model in MODELS if model.file.startswith("qwen2.5")))
    files = locate(str(path))
    tokenizer, template = load_tokenizer(files), load_chat_template(files)
    system = [2610, 525, 1207, 16948, 11, 3465, 553, 54364, 14817, 13, 1446, 525, 264, 10950, 17847, 13]
    expected = [151644, 8948, 198, *system, 151645, 198, 151644, 872, 198, 13048, 151645, 198, 151644, 77091, 198]
    assert template.encode([{"role": "user", "content": "Hi"}], tokenizer) == expected
    for text in ("Hi 12345 don't\n\n  x = y**2\té 日本語 🙂", "\tdef f(x):\r\n\treturn  x  \n", "naïve ½ 𝐀b"):
        ids = tokenizer.encode(text, add_special_tokens=True)
        assert tokenizer.decode(ids) == text
    spec = GGUFFile(path).spec
    assert spec.qkv_bias
    assert not spec.output_bias
    assert {151643, 151645} <= set(spec.eos_token_ids)


def _further() -> list[Path]:
    folder = os.environ.get("OCTAVO_TEST_MODELS")
    if not folder:
        return []
    found = [path for path in Path(folder).iterdir() if path.suffix == ".gguf" or (path / "config.json").is_file()]
    return sorted(found)


@pytest.mark.parametrize("path", _further(), ids=lambda path: path.name)
def test_further_models_answer_as_transformers(path):
    compare(path, partial(losses, path))
