"""How far a kernel's result is from the oracle's."""

import torch
from torch import Tensor


def largest_error(actual: Tensor, expected: Tensor) -> float:
    """Largest |actual - expected| / max(1, |expected|) over all elements; infinite where `actual` is not a number.

    Outputs are filled with NaN before a kernel runs, so an element that it leaves unwritten counts as infinitely wrong.
    """
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise ValueError(
            f"result is {tuple(actual.shape)} {actual.dtype}, expected {tuple(expected.shape)} {expected.dtype}"
        )
    expected = expected.double()
    error = (actual.double() - expected).abs() / expected.abs().clamp(min=1)
    return error.nan_to_num(nan=torch.inf).max().item() if error.numel() else 0.0
