"""What `octavo bench compare` runs: the same requests for every engine."""

from dataclasses import dataclass

import numpy as np

from octavo_runtime.bench.jobs import Job, random_prompt

_VOCABULARY = 32_000  # ids that every model of today has


@dataclass(frozen=True)
class Workload:
    """Requests that arrive together. `equal_lengths`: a static batch can run them without padding."""

    name: str
    jobs: tuple[Job, ...]
    equal_lengths: bool

    @property
    def output_tokens(self) -> int:
        return sum(job.output_len for job in self.jobs)


def equal(name: str, count: int, prompt_len: int, output_len: int) -> Workload:
    """`count` requests of one length each way, in tokens."""
    generator = np.random.default_rng(1)
    jobs = tuple(Job(random_prompt(generator, prompt_len, _VOCABULARY), output_len) for _ in range(count))
    return Workload(name, jobs, equal_lengths=True)


def mixed() -> Workload:
    """64 requests with a long tail of lengths both ways: medians near 100 tokens, from 4 to 512; 9,491 tokens out."""
    generator = np.random.default_rng(0)
    inputs = np.clip(generator.lognormal(4.6, 1.0, 64), 4, 512).astype(int)
    outputs = np.clip(generator.lognormal(4.6, 0.9, 64), 4, 512).astype(int)
    lengths = zip(inputs.tolist(), outputs.tolist(), strict=True)
    jobs = tuple(Job(random_prompt(generator, length, _VOCABULARY), output_len) for length, output_len in lengths)
    return Workload("64 requests, mixed lengths", jobs, equal_lengths=False)
