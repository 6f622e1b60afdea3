"""Two texts as the model that scores them reads them, and the scores of what it brings. Free of torch."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from octavo_runtime.protocol.text_task import ScoreActivation, TextTask
from octavo_runtime.text.chat_template import ChatTemplate
from octavo_runtime.text.tokenizer import Tokenizer

Numbers = npt.NDArray[np.float64]


def pair_tokens(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    task: TextTask,
    query: str,
    document: str,
    *,
    most: int | None = None,
    instruction: str | None = None,
) -> tuple[list[int], int | None]:
    """Token ids, and where the second text begins; see Tokenizer.encode_pair. What a template writes is never cut: its
    end asks the question. instruction: what a template asks by; None: as the model's files say. Raises InvalidParameter
    where the template refuses."""
    if not task.templated:
        return tokenizer.encode_pair(query, document, most=most)
    messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
    if instruction is None and task.default_prompt is not None:
        instruction = task.prompts[task.default_prompt]
    if instruction is not None:  # as sentence-transformers hands it to a template
        messages.insert(0, {"role": "system", "content": instruction})
    return template.encode(messages, tokenizer), None


def activated(numbers: Sequence[float], activation: ScoreActivation) -> list[float]:
    """The scores that a model's numbers mean."""
    match activation:
        case "identity":
            return list(numbers)
        case "sigmoid":
            return [1 / (1 + math.exp(-one)) if one >= 0 else math.exp(one) / (1 + math.exp(one)) for one in numbers]
        case "softmax":
            largest = max(numbers)
            powers = [math.exp(one - largest) for one in numbers]
            return [power / sum(powers) for power in powers]


def unpacked(vector: bytes) -> Numbers:
    """The numbers of an Output's embedding."""
    return np.frombuffer(vector, "<f4").astype(np.float64)


def cosine(one: Numbers, other: Numbers) -> float:
    """Of two vectors of one length; 0 where one of them is nothing but zeros."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.dot(one, other)) / lengths if lengths else 0.0
