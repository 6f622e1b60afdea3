"""Which tokens a draw may take: top_k, then top_p among those (nucleus sampling, Holtzman et al. 2020), then min_p.

Sorting a vocabulary costs more than drawing from it. So a token is drawn from the whole distribution first, and kept
if the filters would have kept it: they keep the likeliest tokens, so what counts is how many are likelier than it, and
how likely these are together. Only the rows whose token falls outside need their filters worked out; they draw again
with the same racing times, which gives the token that they would have drawn from the filtered distribution at once."""

from typing import NamedTuple

import torch


class Truncation(NamedTuple):
    """The filters of n rows, each [n, 1] float32. None is: top_k the vocabulary's size, top_p infinite, min_p 0."""

    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor

    def rows(self, where: torch.Tensor | slice) -> "Truncation":
        return Truncation(self.top_k[where], self.top_p[where], self.min_p[where])


class Truncated(NamedTuple):
    """What `inspect` found of drawn tokens: which are surely kept [n] bool, and how many tokens are likelier [n]."""

    kept: torch.Tensor
    likelier: torch.Tensor


def inspect(scores: torch.Tensor, weights: torch.Tensor, tokens: torch.Tensor, limits: Truncation) -> Truncated:
    """Whether the filters keep `tokens` [n]. `scores` [n, vocab]: 0 for the likeliest; `weights`: their exponentials.

    With top_k and top_p together the nucleus is a share of the top k alone; their weight is at least that of the
    likelier tokens and this one. So a kept token may be taken for a doubtful one, never the other way round."""
    place = tokens[:, None]
    score = scores.gather(1, place)
    above = scores > score
    likelier = above.sum(dim=-1, keepdim=True)
    mass = (weights * above).sum(dim=-1, keepdim=True)
    limited = limits.top_k < scores.shape[-1]
    total = torch.where(limited, mass + weights.gather(1, place), weights.sum(dim=-1, keepdim=True))
    kept = (likelier < limits.top_k) & (mass < limits.top_p * total) & (score >= limits.min_p.log())
    return Truncated(kept[:, 0], likelier[:, 0])


def floor(scores: torch.Tensor, weights: torch.Tensor, likelier: torch.Tensor, limits: Truncation) -> torch.Tensor:
    """The least score [n, 1] that the filters keep, in rows where they do not keep a token that `likelier` [n] others
    surpass. What they keep lies therefore within the top k or, without top_k, among those others."""
    limited = limits.top_k < scores.shape[-1]
    depth = torch.where(limited, limits.top_k, likelier[:, None].float()).amax()
    best = scores.topk(max(1, int(depth)), dim=-1).values
    within = torch.arange(best.shape[-1], device=scores.device) < limits.top_k
    mass = best.exp() * within
    total = torch.where(limited, mass.sum(dim=-1, keepdim=True), weights.sum(dim=-1, keepdim=True))
    before = mass.cumsum(dim=-1) - mass
    kept = (before < limits.top_p * total) & within
    count = kept.sum(dim=-1, keepdim=True).clamp(min=1)  # the likeliest always stays
    return torch.maximum(best.gather(1, count - 1), limits.min_p.log())
