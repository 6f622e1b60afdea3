"""How far the next tokens' probabilities of one model are from another's, over texts."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from octavo_runtime.quantizer.report import Judged


def judge(scores: Iterable[tuple[Tensor, Tensor]], texts: Iterable[Sequence[int]]) -> Judged:
    """scores: of each text the logarithms of the next tokens' probabilities [tokens, vocab], those of the model before
    and of the one after."""
    found = Judged()
    for (one, two), text in zip(scores, texts, strict=True):
        one, two = one[:-1], two[:-1]
        following = torch.tensor(text[1:], device=one.device).unsqueeze(1)
        found.before -= float(one.gather(1, following).sum())
        found.after -= float(two.gather(1, following).sum())
        found.divergence += float((one.exp() * (one - two)).sum())
        found.tokens += len(following)
    return found
