"""transformers' `generate` on one prompt after another: what most people start from."""

import contextlib
import io
import time
from collections.abc import Sequence

import torch

from octavo_runtime.models.loading.files import ModelFiles


def one_by_one(files: ModelFiles, dtype: str, prompts: Sequence[list[int]], tokens: int) -> list[float]:
    """Seconds for each prompt's `tokens` greedy tokens, after a warm-up. Raises ImportError where transformers, or
    accelerate, by which it reads GGUF files, is not installed."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    gguf = {"gguf_file": files.gguf.name} if files.gguf else {}
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        model = AutoModelForCausalLM.from_pretrained(files.folder, dtype=getattr(torch, dtype), **gguf)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")

    def generate(prompt: list[int]) -> float:
        ids = torch.tensor([prompt], device=model.device)
        started = time.perf_counter()
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=-1,  # by length alone, as the engine's ignore_eos
            pad_token_id=0,
        ).cpu()
        return time.perf_counter() - started

    generate(prompts[0])
    return [generate(prompt) for prompt in prompts]
