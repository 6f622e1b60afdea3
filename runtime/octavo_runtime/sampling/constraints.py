"""What a request forbids or favours, token by token: allowed_token_ids, bad_words, min_tokens, logit_bias, and the bit
masks of structured output."""

import math
from collections.abc import Iterator, Sequence

import torch

from octavo_runtime.protocol.sampling_params import SamplingParams


class Constraints:
    """The constraints of one sequence, and as much of its answer as they depend on."""

    def __init__(
        self, params: SamplingParams, answer: Sequence[int], eos_token_ids: Sequence[int], device: torch.device
    ) -> None:
        """`answer`: the tokens generated so far. `eos_token_ids` end an answer unless the parameters say otherwise."""
        self._allowed = torch.tensor(params.allowed_token_ids, device=device) if params.allowed_token_ids else None
        self._min_tokens = params.min_tokens
        ends = [*params.stop_token_ids, *(() if params.ignore_eos else eos_token_ids)]
        self._ends = torch.tensor(ends, dtype=torch.int64, device=device)
        # Bad words by all of their tokens but the last: where an answer ends in these, the last is banned.
        last_tokens: dict[tuple[int, ...], list[int]] = {}
        for *start, last in params.bad_word_ids:
            last_tokens.setdefault(tuple(start), []).append(last)
        self._last_tokens = {start: torch.tensor(last, device=device) for start, last in last_tokens.items()}
        self._start_lengths = sorted({len(start) for start in last_tokens})
        self._biased = torch.tensor(list(params.logit_bias), dtype=torch.int64, device=device)
        self._biases = torch.tensor(list(params.logit_bias.values()), dtype=torch.float32, device=device)
        self._answer = list(answer)

    def extend(self, token_ids: Sequence[int]) -> None:
        """The answer goes on with `token_ids`."""
        self._answer += token_ids

    def apply(self, scores: torch.Tensor) -> None:
        """Sets what is forbidden to -inf and adds the biases, in place, in the sequence's `scores` [vocab]."""
        if self._allowed is not None:
            kept = scores[self._allowed]
            scores.fill_(-math.inf)
            scores[self._allowed] = kept
        for banned in self._banned():
            scores[banned] = -math.inf
        if len(self._biased):
            scores[self._biased] += self._biases

    def _banned(self) -> Iterator[torch.Tensor]:
        """The tokens that the answer must not go on with."""
        if len(self._answer) < self._min_tokens:
            yield self._ends
        for length in self._start_lengths:
            start = tuple(self._answer[max(0, len(self._answer) - length) :])
            if start in self._last_tokens:
                yield self._last_tokens[start]


def has_constraints(params: SamplingParams) -> bool:
    """Whether a sequence with these parameters needs Constraints."""
    return bool(params.allowed_token_ids or params.bad_word_ids or params.min_tokens or params.logit_bias)


def apply_masks(scores: torch.Tensor, masks: torch.Tensor) -> list[int]:
    """Sets to -inf, in place, the `scores` [n, vocab] that `masks` [n, ceil(vocab / 32)] int32 do not allow: token t is
    bit t % 32 of word t // 32 (llguidance's layout). Returns the masked rows; a mask of all ones costs nothing."""
    where = (masks != -1).any(dim=-1).nonzero()[:, 0]
    if len(where):
        codes = masks[where].to(scores.device).view(torch.uint8).int()  # little-endian: the lowest tokens first
        every_code = torch.arange(256, device=scores.device)[:, None]
        forbidden = (every_code >> torch.arange(8, device=scores.device)) & 1 == 0
        place = where.to(scores.device)
        scores[place] = scores[place].masked_fill_(forbidden[codes].flatten(1)[:, : scores.shape[-1]], -math.inf)
    return where.tolist()


def revive(scores: torch.Tensor, rows: torch.Tensor, token: int) -> None:
    """Where constraints contradict each other and leave one of `rows` nothing, `token` stays."""
    dead = rows[scores[rows].amax(dim=-1) == -math.inf]
    scores[dead, token] = 0.0
