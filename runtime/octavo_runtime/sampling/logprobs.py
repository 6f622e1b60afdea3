"""Log-probabilities of the model's own distribution."""

from collections.abc import Sequence

import torch

from octavo_runtime.protocol.step import TokenLogprobs

_SLICE = 2**22  # scores at a time


def token_logprobs(logits: torch.Tensor, token_ids: torch.Tensor, tops: Sequence[int]) -> list[TokenLogprobs]:
    """For each row of `logits` [n, vocab] its token of `token_ids` [n], then the row's `tops` [n] likeliest ones.

    A token's rank is one more than the number of likelier tokens. Worked out a few rows at a time, so that a long
    prompt's temporary tensors stay small."""
    step = max(1, _SLICE // logits.shape[-1])
    found: list[TokenLogprobs] = []
    for start in range(0, len(logits), step):
        part = slice(start, start + step)
        found += _slice(logits[part], token_ids[part, None], tops[part])
    return found


def prompt_logprobs(logits: torch.Tensor, token_ids: torch.Tensor, top: int) -> list[TokenLogprobs]:
    """The entries of t prompt tokens `token_ids` [t], where `logits` [t, vocab] are those that each was chosen from:
    the model's output at the position before it."""
    return token_logprobs(logits, token_ids, [top] * len(token_ids))


def _slice(logits: torch.Tensor, token_ids: torch.Tensor, tops: Sequence[int]) -> list[TokenLogprobs]:
    peak = logits.amax(dim=-1, keepdim=True)
    total = peak + (logits - peak).exp_().sum(dim=-1, keepdim=True).log()
    chosen = logits.gather(1, token_ids)
    ranks = (logits > chosen).sum(dim=-1, keepdim=True) + 1
    best = logits.topk(min(max(tops), logits.shape[-1]), dim=-1)
    ids = torch.cat([token_ids, best.indices], dim=-1).tolist()
    values = (torch.cat([chosen, best.values], dim=-1) - total).tolist()
    return [
        TokenLogprobs(row_ids[: top + 1], row_values[: top + 1], [rank, *range(1, len(row_ids[: top + 1]))])
        for row_ids, row_values, (rank,), top in zip(ids, values, ranks.tolist(), tops, strict=True)
    ]
