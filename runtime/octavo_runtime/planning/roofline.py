"""Least time of a prefill and of a decode step on a GPU, by the roofline model (Williams et al. 2009): the longer of
operations / peak and bytes / bandwidth. Free of torch."""

import math
from dataclasses import dataclass
from typing import Literal

from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.gpus import Gpu
from octavo_runtime.planning.parameters import expert_size, projected_parameters, weight_bytes
from octavo_runtime.planning.quantized_weights import expert_saving, rounded_parameters
from octavo_runtime.quantization.scheme import ROUNDED_ROWS


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


def prefill_cost(spec: ModelSpec, gpu: Gpu, length: int, cached_size: int = 2) -> Cost:
    """One prompt of `length` tokens, and the first token after it. cached_size: bytes of a number of the KV cache.
    ValueError where the GPU's speed is not known."""
    # Causal attention: a token meets those before it, as many as the layer's window holds.
    reaches = [min(length, window or length) for window in _windows(spec)]
    pairs = sum(reach * (reach + 1) // 2 + (length - reach) * reach for reach in reaches)
    cached = spec.num_layers * length * cached_size
    return _cost(spec, gpu, sequences=1, context=0, tokens=length, pairs=pairs, cached=cached)


def decode_cost(spec: ModelSpec, gpu: Gpu, sequences: int, context: int, cached_size: int = 2) -> Cost:
    """One new token for each of `sequences`, which hold `context` tokens. cached_size: see prefill_cost. ValueError
    where the GPU's speed is not known."""
    pairs = sequences * sum(min(context + 1, window or context + 1) for window in _windows(spec))
    return _cost(
        spec, gpu, sequences=sequences, context=context, tokens=sequences, pairs=pairs, cached=pairs * cached_size
    )


def _windows(spec: ModelSpec) -> list[int | None]:
    """Of all layers."""
    return [spec.window_of(layer) for layer in range(spec.num_layers)]


def _cost(spec: ModelSpec, gpu: Gpu, *, sequences: int, context: int, tokens: int, pairs: int, cached: int) -> Cost:
    """`pairs`: of a query token and a key token, in all layers. `cached`: tokens whose key and value, or latent, are
    written or read, in all layers, times the bytes of a number. Weights are counted as a GPU keeps them, and once for
    all tokens, of experts those that tokens choose; the output head works for one token of each sequence. Of products
    of 8 bits a GPU makes twice as many as of 16."""
    if gpu.half_flops is None or gpu.bandwidth is None:
        raise ValueError(f"costs: need a GPU whose speed is known, got {gpu.name}; name it with gpu")
    attended = _attended_size(spec, absorbed=context > 0)
    head = spec.vocab_size * spec.word_size
    products = tokens * (_multiplied(spec) - _rounded(spec, gpu, tokens) / 2) + sequences * head
    operations = 2 * products + 2 * pairs * attended
    table = 0 if spec.tie_embeddings else head * 2  # of an embedding apart from the head, a few rows are read
    traffic = weight_bytes(spec, 2) - table - _unchosen(spec, tokens) + cached * math.prod(spec.cached_token)
    return Cost(sequences, context, tokens, operations / gpu.half_flops, traffic / gpu.bandwidth)


def _attended_size(spec: ModelSpec, *, absorbed: bool) -> int:
    """Multiplications of a query token with a key token and its value. absorbed: with latents as they are."""
    if spec.latent is None or not absorbed:
        return spec.num_heads * (spec.head_dim + spec.attended_dim)
    return spec.num_heads * (2 * spec.latent.rank + spec.rotated)


def _multiplied(spec: ModelSpec) -> int:
    """The weights of all layers that a token is multiplied with."""
    hidden = spec.hidden_size
    attention = projected_parameters(spec)
    mlps = (spec.num_layers - len(spec.expert_layers)) * hidden * (spec.gate_up_size + spec.intermediate_size)
    if spec.experts is not None:
        has, routing = spec.experts, spec.experts.routing
        beside = hidden * (routing.num_experts + 3 * has.shared_size + has.gates_shared)
        mlps += len(has.layers) * (routing.top_k * expert_size(spec) + beside)
    return spec.num_layers * attention + mlps


def _rounded(spec: ModelSpec, gpu: Gpu, tokens: int) -> int:
    """Those of them whose products with so many tokens are of 8 bits by 8 bits."""
    scheme = spec.quantization
    if scheme is None or tokens <= ROUNDED_ROWS:
        return 0
    if scheme.values == "fp8" and gpu.capability is not None and gpu.capability < (8, 9):
        return 0
    return rounded_parameters(spec)


def _unchosen(spec: ModelSpec, tokens: int) -> float:
    """Bytes of the experts that none of so many tokens is likely to choose."""
    if spec.experts is None:
        return 0
    routing = spec.experts.routing
    missed = (1 - routing.top_k / routing.num_experts) ** tokens
    experts = len(spec.experts.layers) * routing.num_experts * expert_size(spec)
    held = experts * 17 / 32 if spec.experts.is_packed else 2 * experts - expert_saving(spec)
    return missed * held
