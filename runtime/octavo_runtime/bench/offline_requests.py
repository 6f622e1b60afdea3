"""The requests of `octavo bench offline` and `octavo bench latency`: the same token ids in every run and for every
engine, so that figures of one day and one engine can be laid beside another's."""

import re
from collections.abc import Callable, Iterable

import numpy as np

from octavo_runtime.bench.jobs import Job
from octavo_runtime.config.options import BadOption

_VOCABULARY = 128_000  # ids are drawn from 1,000 to 126,999, which Llama 3's vocabulary has
_FIXED = re.compile(r"(?P<prompt>[1-9]\d{0,6})x(?P<output>[1-9]\d{0,4})")
_COUNT = 256


def workload(name: str) -> list[Job]:
    """The requests of `sharegpt`, `prefix` or `INxOUT` (tokens of each prompt and answer), of which `NAME:COUNT` takes
    the first COUNT. Raises BadOption."""
    kind, _, count = name.partition(":")
    if count and not (count.isdecimal() and 1 <= int(count) <= 100_000):
        raise BadOption(f"workloads: the count behind a colon must be from 1 to 100000, got {name!r}")
    fixed = _FIXED.fullmatch(kind)
    if kind == "sharegpt":
        return sharegpt()[: int(count or 1000)]
    if kind == "prefix":
        return shared_prefix(int(count or _COUNT))
    if fixed is None:
        raise BadOption(f"workloads: must be sharegpt, prefix or INxOUT such as 1024x128, got {name!r}")
    return equal_lengths(int(count or _COUNT), int(fixed["prompt"]), int(fixed["output"]), seed=1)


def sharegpt(count: int = 1000) -> list[Job]:
    """Lengths with the means of ShareGPT's conversations (161 in, 338 out; Kwon et al. 2023), lognormal, 4 to 1024."""
    generator = np.random.default_rng(0)
    prompts = np.clip(generator.lognormal(4.6, 1.0, count), 4, 1024).astype(int)
    outputs = np.clip(generator.lognormal(5.4, 0.9, count), 4, 1024).astype(int)
    return [Job(_tokens(generator, int(prompt)), int(out)) for prompt, out in zip(prompts, outputs, strict=True)]


def equal_lengths(count: int, prompt_len: int, output_len: int, seed: int) -> list[Job]:
    """`count` requests with prompts of their own."""
    generator = np.random.default_rng(seed)
    return [Job(_tokens(generator, prompt_len), output_len) for _ in range(count)]


def shared_prefix(count: int = _COUNT) -> list[Job]:
    """2,048 tokens that all prompts begin with, then 64 of their own; 64 tokens out."""
    generator = np.random.default_rng(2)
    head = _tokens(generator, 2048)
    return [Job(head + _tokens(generator, 64), 64) for _ in range(count)]


def check_lengths(jobs: Iterable[Job], limit: int) -> None:
    """BadOption where a job is longer than `limit`, the longest sequence that is served."""
    longest = max(len(job.prompt) + job.output_len for job in jobs)
    if longest > limit:
        raise BadOption(f"max_model_len: must be at least {longest:,} for these requests, got {limit:,}")


def within(vocab_size: int) -> Callable[[Job], Job]:
    """Brings a request's token ids into a smaller vocabulary."""
    return lambda job: Job([token % vocab_size for token in job.prompt], job.output_len)


def _tokens(generator: np.random.Generator, count: int) -> list[int]:
    return [int(token) for token in generator.integers(1000, _VOCABULARY - 1000, size=count)]
