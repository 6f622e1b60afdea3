"""Choosing the next tokens, for the whole batch at once.

Sampling is the Gumbel-max trick: the likeliest token after adding noise -log(-log(u)) to each log-probability is a
sample of the distribution (Gumbel 1954). The noise is a hash of (seed, position, token), so a request draws the same
tokens in any batch, order or chunking."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from octavo_runtime.scheduler import Slice

_MASK32 = 0xFFFFFFFF
_TOP_P_CANDIDATES = 1024


@dataclass(frozen=True)
class SamplingRow:
    """What sampling one row takes. `seed` and `position` alone decide its randomness."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    position: int


def sampling_row(item: Slice, engine_seed: int) -> SamplingRow:
    """The row of a slice; a request without a seed takes one from the engine's seed and its place in the order of
    arrival."""
    params, request = item.request.params, item.request
    seed = params.seed if params.seed is not None else engine_seed * 0x9E3779B1 + request.arrival + 1
    return SamplingRow(params.temperature, params.top_p, params.top_k, params.min_p, seed, request.known)


def sample(logits: torch.Tensor, rows: Sequence[SamplingRow]) -> torch.Tensor:
    """Token ids [rows] int64 for float32 logits [rows, vocab]."""
    tokens = logits.argmax(dim=-1)
    drawn = [index for index, row in enumerate(rows) if row.temperature > 0]
    if drawn:
        picked = [rows[index] for index in drawn]
        where = torch.tensor(drawn, device=logits.device)
        scores = _restrict(logits[where] / _column(picked, "temperature", logits), picked)
        tokens[where] = (scores + _gumbel(picked, logits.shape[-1], logits.device)).argmax(dim=-1)
    return tokens


def _restrict(scores: torch.Tensor, rows: Sequence[SamplingRow]) -> torch.Tensor:
    """Masks with -inf what top_k, top_p and min_p leave out; the likeliest token always stays."""
    vocab = scores.shape[-1]
    if any(0 < row.top_k < vocab for row in rows):
        limits = [row.top_k if 0 < row.top_k < vocab else vocab for row in rows]
        largest = max(limit for limit in limits if limit < vocab)
        best = scores.topk(largest, dim=-1).values
        last = torch.tensor([min(limit, largest) - 1 for limit in limits], device=scores.device)
        threshold = best.gather(1, last[:, None])
        unlimited = torch.tensor([limit == vocab for limit in limits], device=scores.device)
        scores = scores.masked_fill((scores < threshold) & ~unlimited[:, None], -torch.inf)
    if any(row.top_p < 1.0 for row in rows):
        scores = scores.masked_fill(scores < _top_p_threshold(scores, _column(rows, "top_p", scores)), -torch.inf)
    if any(row.min_p > 0.0 for row in rows):
        # p >= min_p * p_max, in logarithms
        floor = scores.amax(dim=-1, keepdim=True) + _column(rows, "min_p", scores).log()
        scores = scores.masked_fill(scores < floor, -torch.inf)
    return scores


def _top_p_threshold(scores: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The score of the last token of each row's nucleus [rows, 1]: the fewest tokens whose probabilities reach top_p
    (Holtzman et al. 2020). Sorting the vocabulary is slow, so a few candidates are tried first."""
    vocab = scores.shape[-1]
    total = scores.logsumexp(dim=-1, keepdim=True)
    for candidates in (min(_TOP_P_CANDIDATES, vocab), vocab):
        best = scores.topk(candidates, dim=-1).values
        reached = (best - total).exp().cumsum(dim=-1)
        if candidates == vocab or bool((reached[:, -1:] >= top_p).logical_or(top_p >= 1.0).all()):
            break
    last = (reached < top_p).sum(dim=-1, keepdim=True).clamp(max=best.shape[-1] - 1)
    return best.gather(1, last).masked_fill(top_p >= 1.0, -torch.inf)


def _gumbel(rows: Sequence[SamplingRow], vocab: int, device: torch.device) -> torch.Tensor:
    """Gumbel noise [rows, vocab] from a 32-bit hash of (seed, position, token)."""
    keys = torch.tensor([_key(row.seed, row.position) for row in rows], dtype=torch.int64, device=device)
    bits = _mix(_mix(torch.arange(vocab, device=device))[None, :] ^ keys[:, None])
    uniform = (bits.float() + 0.5) * 2.0**-32
    return -(-uniform.clamp(max=1.0 - 2.0**-24).log()).log()


def _mix(bits: torch.Tensor) -> torch.Tensor:
    """A 32-bit finaliser that spreads every bit over all (the constants are "lowbias32", Wellons 2018)."""
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x7FEB352D) & _MASK32
    bits = bits ^ (bits >> 15)
    bits = (bits * 0x846CA68B) & _MASK32
    return bits ^ (bits >> 16)


def _key(seed: int, position: int) -> int:
    """32 bits of (seed, position), by splitmix64's finaliser (Steele et al. 2014)."""
    mask = 2**64 - 1
    bits = (seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03) & mask
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & mask
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
    return (bits ^ (bits >> 31)) >> 32


def _column(rows: Sequence[SamplingRow], name: str, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor([[getattr(row, name)] for row in rows], dtype=torch.float32, device=like.device)
