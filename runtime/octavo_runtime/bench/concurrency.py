"""`octavo bench concurrency`: what continuous batching gains, beside transformers' generate on the same work."""

import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from octavo_runtime.config import EngineConfig
from octavo_runtime.engine import Engine
from octavo_runtime.executor.executor import DTYPES
from octavo_runtime.model.files import ModelFiles, locate
from octavo_runtime.sampling_params import SamplingParams

PROMPT_TOKENS = 64


def run(model: str, requests: int, tokens: int, dtype: str) -> None:
    """Prints seconds and output tokens/s for one request and for many, and the ratio of the two times."""
    files = locate(model)
    rows = [
        ("octavo, all at once", *_measure(_octavo(files, model, dtype, tokens), requests)),
        ("transformers generate, one by one", *_measure(_transformers(files, dtype, tokens), requests)),
    ]
    table = Table(title=f"{files.name}: {PROMPT_TOKENS} tokens in, {tokens} out, {dtype}")
    for heading in ("engine", "1 request, s", f"{requests} requests, s", "ratio", "output tok/s"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for name, one, many in rows:
        table.add_row(name, f"{one:.2f}", f"{many:.2f}", f"{many / one:.1f}", f"{requests * tokens / many:.0f}")
    Console().print(table)


def _measure(generate: Callable[[int], None], requests: int) -> tuple[float, float]:
    """Seconds for one request and for many, after a warm-up."""
    generate(1)
    seconds = []
    for count in (1, requests):
        started = time.perf_counter()
        generate(count)
        seconds.append(time.perf_counter() - started)
    return seconds[0], seconds[1]


def _prompts(count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(100, 20_000, (count, PROMPT_TOKENS), generator=generator).tolist()


def _octavo(files: ModelFiles, model: str, dtype: str, tokens: int) -> Callable[[int], None]:
    engine = Engine(EngineConfig.model_validate({"model": model, "dtype": dtype}), files)
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)

    def generate(count: int) -> None:
        for index, prompt in enumerate(_prompts(count)):
            engine.add_request(str(index), prompt, params)
        while engine.has_work:
            engine.step()

    return generate


def _transformers(files: ModelFiles, dtype: str, tokens: int) -> Callable[[int], None]:
    from transformers import AutoModelForCausalLM

    gguf = {"gguf_file": files.gguf.name} if files.gguf else {}
    model = AutoModelForCausalLM.from_pretrained(files.folder, dtype=DTYPES[dtype], **gguf)

    def generate(count: int) -> None:
        for prompt in _prompts(count):
            ids = torch.tensor([prompt])
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
            )

    return generate
