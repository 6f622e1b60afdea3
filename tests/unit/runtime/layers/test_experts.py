"""The layer of experts beside its kernel."""

import pytest
import torch

from octavo_runtime.layers import experts as layer
from octavo_runtime.layers.experts import Experts
from octavo_runtime.layers.router import Router
from octavo_runtime.layers.routing import Routing


def test_the_kernel_hears_of_how_many_experts_there_are_with_those_of_other_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[object] = []

    def kernel(hidden: torch.Tensor, *arguments: object) -> torch.Tensor:
        heard.append(arguments[-1])
        return hidden

    monkeypatch.setattr(layer, "experts", kernel)
    router = Router(torch.zeros(8, 4), Routing(num_experts=8, top_k=2))
    Experts(router, torch.zeros(2, 6, 4), torch.zeros(2, 4, 3), first=2)(torch.zeros(5, 4))
    assert heard == [8]
