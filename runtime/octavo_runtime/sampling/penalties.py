"""Penalties on tokens that a sequence has already: repetition (over prompt and answer; Keskar et al. 2019), frequency
and presence (over the answer, as in OpenAI's API).

A sequence has few distinct tokens beside a vocabulary, so only these are kept, and only their scores are touched."""

from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from octavo_runtime.protocol.sampling_params import SamplingParams


class Penalties:
    """The penalties of one sequence, and its distinct tokens with how often the answer has each."""

    def __init__(self, params: SamplingParams, token_ids: Sequence[int], prompt_len: int) -> None:
        """`token_ids`: all that is known, the first `prompt_len` of them the prompt."""
        self.repetition = params.repetition_penalty
        self.frequency = params.frequency_penalty
        self.presence = params.presence_penalty
        counts = Counter(token_ids[prompt_len:])
        distinct = dict.fromkeys(token_ids)
        self._place = {token: place for place, token in enumerate(distinct)}
        self._ids = array("q", distinct)
        self._counts = array("f", map(counts.__getitem__, distinct))

    def extend(self, token_ids: Sequence[int]) -> None:
        """The answer goes on with `token_ids`."""
        for token in token_ids:
            place = self._place.setdefault(token, len(self._ids))
            if place == len(self._ids):
                self._ids.append(token)
                self._counts.append(0.0)
            self._counts[place] += 1.0

    def ids(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The distinct tokens, in the memory that `extend` changes: not to be kept."""
        return np.frombuffer(self._ids, dtype=np.int64)

    def counts(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """How often the answer has each of `ids`; not to be kept."""
        return np.frombuffer(self._counts, dtype=np.float32)


def has_penalties(params: SamplingParams) -> bool:
    """Whether a sequence with these parameters needs Penalties."""
    return params.repetition_penalty != 1.0 or params.frequency_penalty != 0.0 or params.presence_penalty != 0.0


def penalize(scores: torch.Tensor, rows: Sequence[tuple[int, Penalties]]) -> None:
    """Lowers `scores` [n, vocab], in place, in each row of (row of scores, its penalties)."""
    lengths = [len(penalties.ids()) for _, penalties in rows]
    ids = np.concatenate([penalties.ids() for _, penalties in rows])
    counts = np.concatenate([penalties.counts() for _, penalties in rows])
    row = np.repeat([index for index, _ in rows], lengths)
    scalars = np.array([(p.repetition, p.frequency, p.presence) for _, p in rows], dtype=np.float32)
    factor, frequency, presence = np.repeat(scalars, lengths, axis=0).T
    where = tuple(torch.from_numpy(np.stack([row, ids])).to(scores.device))
    lower, less = torch.from_numpy(np.stack([factor, frequency * counts + presence * (counts > 0)])).to(scores.device)
    values = scores[where]
    scores[where] = torch.where(values > 0, values / lower, values * lower) - less
