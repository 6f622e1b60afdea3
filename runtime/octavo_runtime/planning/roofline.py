"""Least time of a prefill and of a decode step on a GPU, by the roofline model (Williams et al. 2009): the longer of
operations / peak and bytes / bandwidth. Free of torch."""

from dataclasses import dataclass
from typing import Literal

from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.gpus import Gpu
from octavo_runtime.planning.memory import kv_bytes_per_token, weight_bytes


@dataclass(frozen=True)
class Cost:
    """One step: `tokens` new tokens in all, after `context` known ones in each of `sequences`; seconds of arithmetic
    and of memory traffic. `tokens_per_second`: new tokens, at best."""

    sequences: int
    context: int
    tokens: int
    compute_seconds: float
    memory_seconds: float

    @property
    def seconds(self) -> float:
        return max(self.compute_seconds, self.memory_seconds)

    @property
    def bound(self) -> Literal["compute", "memory"]:
        return "compute" if self.compute_seconds > self.memory_seconds else "memory"

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def prefill_cost(spec: ModelSpec, gpu: Gpu, length: int) -> Cost:
    """One prompt of `length` tokens, and the first token after it. ValueError where the GPU's speed is not known."""
    # Causal attention: a token meets half the others on average.
    pairs = length * (length + 1) // 2
    return _cost(spec, gpu, sequences=1, context=0, tokens=length, pairs=pairs, kv_tokens=length)


def decode_cost(spec: ModelSpec, gpu: Gpu, sequences: int, context: int) -> Cost:
    """One new token for each of `sequences`, which hold `context` tokens. ValueError where the GPU's speed is not
    known."""
    pairs = sequences * (context + 1)
    return _cost(spec, gpu, sequences=sequences, context=context, tokens=sequences, pairs=pairs, kv_tokens=pairs)


def _cost(spec: ModelSpec, gpu: Gpu, *, sequences: int, context: int, tokens: int, pairs: int, kv_tokens: int) -> Cost:
    """`pairs`: of a query token and a key token. `kv_tokens`: whose key and value are written or read. Weights are
    counted in 16 bits, and once for all tokens; the output head works for one token of each sequence."""
    if gpu.half_flops is None or gpu.bandwidth is None:
        raise ValueError(f"costs: need a GPU whose speed is known, got {gpu.name}; name it with gpu")
    attended = spec.num_heads * spec.head_dim
    layer = spec.hidden_size * (spec.qkv_size + attended + spec.gate_up_size + spec.intermediate_size)
    head = spec.vocab_size * spec.hidden_size
    operations = 2 * (tokens * spec.num_layers * layer + sequences * head) + 4 * pairs * spec.num_layers * attended
    table = 0 if spec.tie_embeddings else head * 2  # of an embedding apart from the head, a few rows are read
    traffic = weight_bytes(spec, 2) - table + kv_tokens * kv_bytes_per_token(spec, 2)
    return Cost(sequences, context, tokens, operations / gpu.half_flops, traffic / gpu.bandwidth)
