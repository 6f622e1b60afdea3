"""How the hidden states of one prompt become its embedding."""

from typing import Any, get_args

import msgspec

from octavo_runtime.protocol.pooling import Pooling
from octavo_runtime.protocol.sampling_params import InvalidParameter


class PoolingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Parameters of an embedding; raises InvalidParameter when one is not there.

    pooling: "mean" averages the last hidden states (after the final norm) of all prompt tokens, "max" takes the largest
    of each number, "last" the states of the last token and "cls" those of the first. normalize: scale to length 1 (l2).
    None: as the model's checkpoint says. dimensions: keep so many of the first numbers, before the length is scaled;
    None: all. second_text: of a pair of texts, where the second begins in the prompt, for models that tell them apart.
    """

    pooling: Pooling | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    second_text: int | None = None

    def __post_init__(self) -> None:
        known = get_args(Pooling)
        if self.pooling is not None and self.pooling not in known:
            raise InvalidParameter(
                "pooling", f"must be {', '.join(known[:-1])} or {known[-1]}, got {_shown(self.pooling)}"
            )
        if self.normalize is not None and not isinstance(self.normalize, bool):
            raise InvalidParameter("normalize", f"must be true or false, got {_shown(self.normalize)}")
        for name in ("dimensions", "second_text"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InvalidParameter(name, f"must be at least 1, got {_shown(value)}")


def _shown(value: Any) -> str:
    return f"{value!r:.100}"
