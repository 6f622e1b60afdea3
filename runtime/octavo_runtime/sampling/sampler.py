"""Choosing the next tokens, for the whole batch at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from octavo_kernels.draw_tokens import draw_tokens
from octavo_runtime.protocol.sampling_params import GREEDY_BELOW, SamplingParams
from octavo_runtime.protocol.step import NewRow, Sample
from octavo_runtime.sampling.constraints import Constraints, apply_masks, has_constraints, revive
from octavo_runtime.sampling.extremes import argmax
from octavo_runtime.sampling.logprobs import token_logprobs
from octavo_runtime.sampling.penalties import Penalties, has_penalties, penalize
from octavo_runtime.sampling.race import Race, race_keys
from octavo_runtime.sampling.truncation import Truncation, floor, inspect

# Scores drawn from at a time. On a CPU the few tensors of a pass over them stay in the cache of its cores.
_SCORES_AT_A_TIME = {"cpu": 2**17, "cuda": 2**26}

_NO_LOGPROBS = -1

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """One token to draw: of the sequence in `row`, for the answer `sample_index`, at `position`, which is the number of
    tokens known. Randomness is a function of the row's seed and these two."""

    row: int
    position: int
    sample_index: int


class Sampler:
    """The sampling state of `max_rows` rows. A row pays for what its parameters use, and for nothing else.

    A row's scores are its logits; then, in this order, allowed_token_ids, bad_words, min_tokens, logit_bias, mask,
    penalties, temperature, top_k, top_p, min_p. Where constraints leave a row no token at all, it draws the first of
    `eos_token_ids` (token 0 where there is none)."""

    def __init__(self, max_rows: int, vocab_size: int, eos_token_ids: Sequence[int], device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._eos_token_ids = [token for token in eos_token_ids if token < vocab_size]
        self._device = device
        self._race = Race(vocab_size, device)
        self.hashes = self._race.hashes
        self._seeds = np.zeros(max_rows, dtype=np.uint64)
        self._known = np.zeros(max_rows, dtype=np.int64)
        self._top_logprobs = np.full(max_rows, _NO_LOGPROBS)
        # temperature, then the fields of Truncation
        self._numbers = np.zeros((max_rows, 4), dtype=np.float32)
        self._truncates = np.zeros(max_rows, dtype=np.bool_)
        self._penalties: dict[int, Penalties] = {}
        self._constraints: dict[int, Constraints] = {}

    def set_row(self, new: NewRow) -> None:
        """A sequence takes a row; whatever the row held before is forgotten."""
        row, params = new.row, new.params
        self._seeds[row] = new.seed % 2**64
        self._known[row] = len(new.token_ids)
        self._top_logprobs[row] = _top_logprobs(params, len(self._eos_token_ids))
        top_k = params.top_k if 0 < params.top_k < self._vocab_size else self._vocab_size
        top_p = params.top_p if params.top_p < 1.0 else math.inf
        self._numbers[row] = (0.0 if params.beam_width else params.temperature, top_k, top_p, params.min_p)
        self._truncates[row] = top_k < self._vocab_size or top_p < 1.0 or params.min_p > 0.0
        self._penalties.pop(row, None)
        self._constraints.pop(row, None)
        if has_penalties(params):
            self._penalties[row] = Penalties(params, new.token_ids, new.prompt_len)
        if has_constraints(params):
            answer = new.token_ids[new.prompt_len :]
            self._constraints[row] = Constraints(params, answer, self._eos_token_ids, self._device)

    def extend(self, row: int, start: int, token_ids: Sequence[int]) -> None:
        """The tokens at positions `start`, `start + 1`, ... of a row became known; those that are known already change
        nothing. Raises ValueError where tokens before them are missing."""
        known = int(self._known[row])
        if start > known:
            raise ValueError(f"start must be at most the tokens known of row {row} ({known}), got {start}")
        fresh = token_ids[known - start :]
        self._known[row] += len(fresh)
        if row in self._penalties:
            self._penalties[row].extend(fresh)
        if row in self._constraints:
            self._constraints[row].extend(fresh)

    def draws_plainly(self, rows: Int64s) -> bool:
        """Whether rows [n] draw by their scores and temperatures alone, and report nothing but the token."""
        if self._penalties or self._constraints:
            many = set(rows.tolist())
            if many & self._penalties.keys() or many & self._constraints.keys():
                return False
        return not (self._truncates[rows].any() or (self._top_logprobs[rows] != _NO_LOGPROBS).any())

    def race(
        self, rows: Int64s, sample_indices: Sequence[int], positions: Sequence[int]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Temperatures, 0 for greedy ones, and keys of n draws: see `draw_tokens`."""
        temperatures = self._numbers[rows, 0]
        temperatures[temperatures < GREEDY_BELOW] = 0.0
        return temperatures, race_keys(self._seeds[rows], sample_indices, positions)

    def sample(self, logits: torch.Tensor, draws: Sequence[Draw], masks: torch.Tensor | None) -> list[Sample]:
        """One token for each of the n draws, of `logits` [n, vocab] float32, which are overwritten.

        `masks` [n, ceil(vocab / 32)] int32: bit t % 32 of word t // 32 allows token t; all ones for a row that is
        free. Logprobs come where the row's parameters ask for them: with `logprobs`; with best_of above n, which is
        decided by them; and with beam_width, whose likeliest tokens hold the next beams."""
        rows = np.array([draw.row for draw in draws], dtype=np.int64)
        asked = np.flatnonzero(self._top_logprobs[rows] != _NO_LOGPROBS)
        model_logits = logits[self._on_device(asked)] if len(asked) else logits[:0]
        self._process(logits, draws, masks)
        tokens = self._choose(logits, draws, rows)
        result = [Sample(token) for token in tokens.tolist()]
        if len(asked):
            tops = self._top_logprobs[rows[asked]].tolist()
            found = token_logprobs(model_logits, tokens[self._on_device(asked)], tops)
            for index, logprobs in zip(asked.tolist(), found, strict=True):
                result[index] = Sample(result[index].token_id, logprobs)
        return result

    def _process(self, scores: torch.Tensor, draws: Sequence[Draw], masks: torch.Tensor | None) -> None:
        """From logits to what temperature divides, in place."""
        narrowed = [index for index, draw in enumerate(draws) if draw.row in self._constraints]
        for index in narrowed:
            self._constraints[draws[index].row].apply(scores[index])
        if masks is not None:
            narrowed += apply_masks(scores, masks)
        if narrowed:
            revive(scores, torch.tensor(narrowed, device=scores.device), next(iter(self._eos_token_ids), 0))
        penalized = [
            (index, self._penalties[draw.row]) for index, draw in enumerate(draws) if draw.row in self._penalties
        ]
        if penalized:
            penalize(scores, penalized)

    def _choose(self, scores: torch.Tensor, draws: Sequence[Draw], rows: Int64s) -> torch.Tensor:
        """Token ids [n] of `scores` [n, vocab]."""
        if scores.device.type == "cuda" and not self._truncates[rows].any():
            sample_indices, positions = [draw.sample_index for draw in draws], [draw.position for draw in draws]
            temperatures, keys = self.race(rows, sample_indices, positions)
            return draw_tokens(scores, self._on_device(temperatures), self._on_device(keys), self.hashes)
        is_greedy = self._numbers[rows, 0] < GREEDY_BELOW
        if is_greedy.all():
            return argmax(scores)
        if not is_greedy.any():
            return self._draw(scores, draws, rows)
        greedy, random = np.flatnonzero(is_greedy), np.flatnonzero(~is_greedy)
        tokens = torch.empty(len(rows), dtype=torch.int64, device=scores.device)
        where = self._on_device(greedy)
        tokens[where] = argmax(scores[where])
        where = self._on_device(random)
        tokens[where] = self._draw(scores[where], [draws[index] for index in random], rows[random])
        return tokens

    def _draw(self, scores: torch.Tensor, draws: Sequence[Draw], rows: Int64s) -> torch.Tensor:
        """Token ids [n] of `scores` [n, vocab] for draws with a temperature."""
        sample_indices, positions = [draw.sample_index for draw in draws], [draw.position for draw in draws]
        keys = self._on_device(race_keys(self._seeds[rows], sample_indices, positions))
        temperature, *limits = self._on_device(self._numbers[rows])[:, :, None].unbind(1)
        truncation = Truncation(*limits) if self._truncates[rows].any() else None
        step = max(1, _SCORES_AT_A_TIME[scores.device.type] // self._vocab_size)
        parts = [slice(start, start + step) for start in range(0, len(draws), step)]
        return torch.cat(
            [
                _draw_part(
                    scores[part], temperature[part], keys[part], truncation and truncation.rows(part), self._race
                )
                for part in parts
            ]
        )

    def _on_device(self, values: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)


def _draw_part(
    scores: torch.Tensor, temperature: torch.Tensor, keys: torch.Tensor, truncation: Truncation | None, race: Race
) -> torch.Tensor:
    scaled = (scores - scores.amax(dim=-1, keepdim=True)).div_(temperature)
    weights = scaled.exp()
    tokens = race.winners(weights, keys)
    if truncation is None:
        return tokens
    kept, likelier = inspect(scaled, weights, tokens, truncation)
    again = (~kept).nonzero()[:, 0]
    if len(again):
        scaled, weights = scaled[again], weights[again]
        least = floor(scaled, weights, likelier[again], truncation.rows(again))
        tokens[again] = race.winners(weights.masked_fill_(scaled < least, 0.0), keys[again])
    return tokens


def _top_logprobs(params: SamplingParams, num_eos: int) -> int:
    """How many of the likeliest tokens a draw reports beside its own; _NO_LOGPROBS: it reports nothing."""
    if params.beam_width is not None:
        return num_candidates(params.beam_width, num_eos + len(params.stop_token_ids))
    if params.logprobs is not None:
        return params.logprobs
    return 0 if params.best_of is not None and params.best_of > params.n else _NO_LOGPROBS


def num_candidates(width: int, num_end_tokens: int) -> int:
    """How many of a beam's likeliest tokens a step needs, so that `width` beams live on even where each end token is
    among them."""
    return max(2, 1 + num_end_tokens) * width
