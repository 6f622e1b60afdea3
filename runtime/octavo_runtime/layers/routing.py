"""How a router chooses experts for a token and weighs what they bring, as data. Free of torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Routing:
    """The `top_k` experts of the best scores, and their scores as weights.

    scores: of the router's logits. Softmax, or each logit's sigmoid; or SparseMixer's (Liu et al. 2023), which takes
    one expert after another, and as its weight the softmax over the logits within 2 * `jitter` of the best.
    has_correction: the choice is by the scores with a correction of each expert added, the weights are without it
    (Wang et al. 2024). groups, top_groups: chosen is among the experts of the `top_groups` groups whose `group_best`
    best scores have the largest sums. renormalises: a token's weights are divided by their sum, or by `least_sum` where
    that is larger. scale: of the weights, in the end."""

    num_experts: int
    top_k: int
    scores: Literal["softmax", "sigmoid", "sparsemixer"] = "softmax"
    renormalises: bool = True
    has_correction: bool = False
    groups: int = 1
    top_groups: int = 1
    group_best: int = 2
    least_sum: float = 1e-20
    scale: float = 1.0
    jitter: float = 0.01
