"""EncoderSpec: what a model that reads a text from both sides has and a decoder has not. Free of torch."""

from dataclasses import dataclass

from octavo_runtime.layers.activation import Transfer
from octavo_runtime.protocol.pooling import Pooling


@dataclass(frozen=True)
class Classifier:
    """What makes scores of a text: its states as one vector, a projection as wide as the model with `transfer` and
    perhaps a norm behind it, and one to the scores. dense, norm, output: the names of their tensors."""

    dense: str
    output: str
    transfer: Transfer = "tanh"
    pooling: Pooling = "cls"
    dense_bias: bool = True
    norm: str | None = None


@dataclass(frozen=True)
class EncoderSpec:
    """position_rows: of a table of learned positions, of which a text's first token has row `first_position`;
    type_rows: of one of the types of tokens; 0: there is none. prefix: how the names of its tensors may begin; layers:
    how those of layers do behind it; words, embedding_norm, final_norm: the names of these. first_is_normed: whether
    there is a norm in front of the first layer's attention beside the embedding's."""

    prefix: str
    layers: str = "encoder.layer."
    words: str = "embeddings.word_embeddings"
    embedding_norm: str = "embeddings.LayerNorm"
    position_rows: int = 0
    first_position: int = 0
    type_rows: int = 0
    first_is_normed: bool = True
    final_norm: str | None = None  # None: the last layer's norm stands behind it
    classifier: Classifier | None = None  # None: the last hidden states are what it brings
