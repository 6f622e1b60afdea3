"""Guessed tokens on a device: each is a decode like any other, of the next position of the same row. Keys and values of
a step are written before any are read, so a guess sees those in front of it."""

from collections.abc import Sequence

import numpy as np

from octavo_runtime.protocol.step import Masks, Sample, Slice, StepResult


def one_by_one(slices: Sequence[Slice]) -> list[Slice]:
    """The same work, in which the known token in front of guesses, and each of these, is a slice of its own."""
    return [
        part
        for item in slices
        for part in (
            [Slice(item.row, item.start + place, [token], item.draws) for place, token in enumerate(item.token_ids)]
            if item.guesses
            else [item]
        )
    ]


def masks_one_by_one(slices: Sequence[Slice], masks: Masks) -> Masks:
    """The masks of the draws of slices, for those of one_by_one."""
    draws: Masks = np.repeat(masks, [1 + item.guesses for item in slices for _ in item.draws], axis=0)
    return draws


def put_together(slices: Sequence[Slice], result: StepResult) -> StepResult:
    """What a step of one_by_one(slices) brought, as that of the slices themselves."""
    firsts = np.cumsum([0, *(1 + item.guesses for item in slices)]).tolist()
    places = {first: index for index, first in enumerate(firsts)}
    samples: list[list[Sample]] = [
        [sample for part in result.samples[first : first + 1 + item.guesses] for sample in part]
        for first, item in zip(firsts, slices, strict=False)
    ]
    return StepResult(
        samples,
        {places[index]: scores for index, scores in result.prompt_logprobs.items()},
        {places[index]: embedding for index, embedding in result.embeddings.items()},
    )
