"""The activations of feed-forward blocks, by name. Free of torch."""

from typing import Literal

Activation = Literal["silu", "gelu_tanh", "gelu", "relu", "relu2"]  # with a gate one of the first three
