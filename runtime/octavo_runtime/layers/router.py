"""The router of a mixture of experts: which experts each token goes to, and the weights of their results."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from octavo_runtime.layers.routing import Routing


@dataclass(frozen=True)
class Router:
    """weight: [experts, hidden]; correction: [experts], where the routing has one; bias: [experts], of the logits. In
    float32, as all of it: near ties choose the expert."""

    weight: Tensor
    routing: Routing
    correction: Tensor | None = None
    bias: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        return sum(each.nbytes for each in (self.weight, self.correction, self.bias) if each is not None)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The experts [tokens, k] int64 and their weights [tokens, k] float32, of states [tokens, hidden]."""
        logits, routing = linear(hidden.float(), self.weight, self.bias), self.routing
        if routing.scores == "sparsemixer":
            return _sparsemixer(logits, routing)
        scores = logits.softmax(-1) if routing.scores == "softmax" else logits.sigmoid()
        liked = scores if self.correction is None else scores + self.correction
        if routing.groups > 1:
            liked = _within_groups(liked, routing)
        ids = liked.topk(routing.top_k).indices
        weights = scores.gather(1, ids)
        if routing.renormalises:
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=routing.least_sum)
        return ids, weights if routing.scale == 1.0 else weights * routing.scale


def _within_groups(liked: Tensor, routing: Routing) -> Tensor:
    """[tokens, experts], minus infinity outside the best groups."""
    grouped: Tensor = liked.unflatten(1, (routing.groups, -1))
    best = grouped.topk(routing.group_best).values.sum(-1).topk(routing.top_groups).indices
    others = torch.ones(grouped.shape[:2], dtype=torch.bool, device=liked.device).scatter_(1, best, value=False)
    allowed: Tensor = grouped.masked_fill(others.unsqueeze(-1), -math.inf)
    return allowed.flatten(1)


def _sparsemixer(logits: Tensor, routing: Routing) -> tuple[Tensor, Tensor]:
    """How far a logit is from the best is a share of the larger of the best and its own magnitude."""
    ids, weights, left = [], [], logits
    for _ in range(routing.top_k):
        best, chosen = left.max(-1, keepdim=True)
        far = (best - logits) / logits.abs().clamp(min=best) > 2 * routing.jitter
        weights.append(left.masked_fill(far, -math.inf).softmax(-1).gather(1, chosen))
        ids.append(chosen)
        left = left.scatter(1, chosen, -math.inf)
    return torch.cat(ids, 1), torch.cat(weights, 1)
