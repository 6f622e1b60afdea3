"""Drawing tokens from scores by a race, the Gumbel-max trick (Gumbel, 1954): no sort, no sum over the vocabulary."""

from typing import NamedTuple

from torch import Tensor


class Newest(NamedTuple):
    """Where the token that was drawn last for each row is kept."""

    tokens: Tensor  # [rows] int64
    rows: Tensor  # [draws] int32 or int64: that of each draw


def draw_tokens(
    scores: Tensor,
    temperatures: Tensor,
    keys: Tensor,
    hashes: Tensor,
    out: Tensor | None = None,
    newest: Newest | None = None,
) -> Tensor:
    """The likeliest token where the temperature is 0, else a sample of softmax(scores / temperature).

    Token t of draw i arrives at an exponential time that is a hash of (keys[i], hashes[t]) alone, and the token whose
    scores / temperature - log(time) is greatest is drawn. Of equals, the first.

    Args:
        scores: [draws, vocab]; the last dimension is contiguous. Minus infinity is never drawn beside another score.
        temperatures: [draws] float32.
        keys: [draws] int32, not negative.
        hashes: [vocab] int32, not negative: one for each token.
        out: [draws] int64, where to write; allocated if None.
        newest: where each token is written besides, at its row.

    Returns:
        [draws] int64.
    """
    if scores.device.type == "cuda":
        from octavo_kernels.draw_tokens import triton

        return triton.draw_tokens(scores, temperatures, keys, hashes, out, newest)
    from octavo_kernels.draw_tokens import reference

    return reference.draw_tokens(scores, temperatures, keys, hashes, out, newest)
