"""What a model makes of a text that it reads, as its checkpoint says: the answer to a prompt, a vector, or scores."""

from typing import Literal

import msgspec

from octavo_runtime.protocol.pooling import Pooling

Task = Literal["generate", "embed", "score"]
ScoreActivation = Literal["sigmoid", "softmax", "identity"]


class TextTask(msgspec.Struct, frozen=True, array_like=True):
    """task: what the model was made for. Behind it what holds where a request does not say.

    Of a vector: pooling and normalize as in PoolingParams; prompts: texts by name that stand in front of an input, of
    which `default_prompt` is the one where none is named; max_length: most tokens that the checkpoint's own code reads
    of a text, None where that is for the model to say; lengths: to which a vector may be cut, any where there is none
    and `shortens`.

    Of scores: labels, their names in order; what makes the model's numbers scores; and whether the model's template
    puts query and document together, rather than its tokenizer."""

    task: Task = "generate"
    pooling: Pooling = "mean"
    normalize: bool = True
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    max_length: int | None = None
    shortens: bool = False
    lengths: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    activation: ScoreActivation = "sigmoid"
    templated: bool = False
