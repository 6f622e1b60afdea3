"""How the hidden states of a text become one vector. It imports nothing: the operator reads specs that name it."""

from typing import Literal

Pooling = Literal["mean", "last", "cls", "max"]
"""mean, max: of all tokens; last, cls: of the last and of the first one."""
