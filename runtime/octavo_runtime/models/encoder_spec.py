"""EncoderSpec: what a model that reads a text from both sides has and a decoder has not. Free of torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassifierNames:
    """The tensors that make scores of a text's first token: a projection as wide as the model with tanh behind it, and
    one to the scores."""

    dense: str
    output: str


@dataclass(frozen=True)
class EncoderSpec:
    """A BERT-like encoder (Devlin et al. 2019): learned positions and types of tokens, and a norm behind what each half
    of a layer adds to its input. position_rows: of the table of positions, of which a text's first token has row
    `first_position`. prefix: how the names of its tensors may begin."""

    position_rows: int
    first_position: int
    type_rows: int
    prefix: str
    classifier: ClassifierNames | None = None  # None: the last hidden states are what it brings
