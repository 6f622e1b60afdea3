"""How the hidden states of one prompt become its embedding."""

from typing import Any, Literal, get_args

import msgspec

from octavo_runtime.protocol.sampling_params import InvalidParameter

Pooling = Literal["mean", "last"]


class PoolingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Parameters of an embedding; raises InvalidParameter when one is not there.

    pooling: "mean" averages the last hidden states (after the final norm) of all prompt tokens, "last" takes that of
    the last one. normalize: scale to length 1 (l2)."""

    pooling: Pooling = "mean"
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise InvalidParameter("pooling", f"must be mean or last, got {_shown(self.pooling)}")
        if not isinstance(self.normalize, bool):
            raise InvalidParameter("normalize", f"must be true or false, got {_shown(self.normalize)}")


def _shown(value: Any) -> str:
    return f"{value!r:.100}"
