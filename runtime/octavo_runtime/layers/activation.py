"""The activations of feed-forward blocks and of what makes vectors and scores of texts, by name. Free of torch."""

from typing import Literal

Activation = Literal["silu", "gelu_tanh", "gelu", "relu", "relu2"]  # with a gate one of the first three

Transfer = Literal["identity", "tanh", "gelu", "relu", "sigmoid"]
"""What follows a projection of what a text was pooled to."""
