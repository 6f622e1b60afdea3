"""One request on its way through the engine."""

from dataclasses import dataclass, field

from octavo_runtime.messages import FinishReason
from octavo_runtime.sampling_params import SamplingParams


@dataclass(eq=False)
class Request:
    """`tokens` holds the prompt and all that was generated since; the KV cache holds the first `computed` of them."""

    id: str
    tokens: list[int]
    params: SamplingParams
    arrival: int  # place in the order of arrival; also what tells the randomness of unseeded requests apart
    max_tokens: int  # most tokens to generate
    prompt_len: int = 0
    computed: int = 0
    block_table: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompt_len = len(self.tokens)

    @property
    def known(self) -> int:
        return len(self.tokens)

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_len


def finish_reason(request: Request, eos_token_ids: frozenset[int], max_model_len: int) -> FinishReason | None:
    """Whether the newest token ends the request: its own stop tokens, the model's end, or a length limit."""
    token, params = request.tokens[-1], request.params
    if token in params.stop_token_ids or (token in eos_token_ids and not params.ignore_eos):
        return "stop"
    if request.generated >= request.max_tokens or request.known >= max_model_len:
        return "length"
    return None
