"""ALiBi's slopes are transformers'."""

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from octavo_runtime.layers.alibi import alibi_slopes


@pytest.mark.parametrize("heads", [1, 2, 6, 7, 16, 71, 112])
def test_slopes(heads: int) -> None:
    theirs = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(torch.tensor(alibi_slopes(heads)), theirs)
    torch.testing.assert_close(torch.tensor(alibi_slopes(heads, 0.25)), theirs / 4)
