"""The sampler's rules: what each parameter does to a row, and that rows do not disturb each other."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import NewRow
from octavo_runtime.sampling import sampler as sampler_module
from octavo_runtime.sampling.logprobs import prompt_logprobs, token_logprobs
from octavo_runtime.sampling.sampler import Draw, Sampler

VOCAB = 100
EOS = 7


def make_sampler(*rows: NewRow, vocab: int = VOCAB, eos=(EOS,)) -> Sampler:
    sampler = Sampler(max_rows=16, vocab_size=vocab, eos_token_ids=eos, device=torch.device("cpu"))
    for new in rows:
        sampler.set_row(new)
    return sampler


def new_row(row: int = 0, token_ids=(1, 2, 3), prompt_len=None, seed: int = 0, **params) -> NewRow:
    prompt_len = len(token_ids) if prompt_len is None else prompt_len
    return NewRow(row, SamplingParams(**params), list(token_ids), prompt_len, seed)


def greedy_token(sampler: Sampler, logits: torch.Tensor, masks=None) -> int:
    return sampler.sample(logits.clone()[None], [Draw(0, 3, 0)], masks)[0].token_id


def descending(vocab: int = VOCAB) -> torch.Tensor:
    """Token 0 is the likeliest, then 1, and so on."""
    return -torch.arange(vocab, dtype=torch.float32) / 10


def random_logits(rows: int, vocab: int = VOCAB, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


def pack(allowed: list[set[int]], vocab: int = VOCAB) -> torch.Tensor:
    words = [[sum(1 << t % 32 for t in row if t // 32 == w) for w in range(-(-vocab // 32))] for row in allowed]
    return torch.from_numpy(np.array(words, dtype=np.uint32).view(np.int32))


def test_temperature_zero_takes_the_likeliest():
    sampler = make_sampler(new_row(0, temperature=0.0), new_row(1, temperature=0.0))
    logits = random_logits(2)
    samples = sampler.sample(logits.clone(), [Draw(0, 3, 0), Draw(1, 3, 0)], None)
    assert [sample.token_id for sample in samples] == logits.argmax(dim=-1).tolist()
    assert [sample.logprobs for sample in samples] == [None, None]


@pytest.mark.parametrize("params", [{"temperature": 1e-300}, {"temperature": 1e-5}, {"top_p": 1e-300}, {"min_p": 1.0}])
def test_extreme_values_take_the_likeliest(params):
    logits = random_logits(1)[0]
    assert greedy_token(make_sampler(new_row(**params)), logits) == logits.argmax()


def test_no_draws():
    assert make_sampler().sample(torch.empty(0, VOCAB), [], None) == []


def test_allowed_token_ids():
    sampler = make_sampler(new_row(temperature=0.0, allowed_token_ids=(60, 50, 70)))
    assert greedy_token(sampler, descending()) == 50


def test_logit_bias_adds():
    assert greedy_token(make_sampler(new_row(temperature=0.0, logit_bias={50: 4.9})), descending()) == 0
    assert greedy_token(make_sampler(new_row(temperature=0.0, logit_bias={50: 5.1, 1: -1.0})), descending()) == 50


def test_bad_word_of_one_token_is_never_drawn():
    assert greedy_token(make_sampler(new_row(temperature=0.0, bad_word_ids=((0,), (1,)))), descending()) == 2


def test_bad_word_of_several_tokens_is_not_completed():
    words = ((40, 41, 0), (41, 1), (40, 2))
    sampler = make_sampler(new_row(temperature=0.0, bad_word_ids=words))
    drawn = [greedy_token(sampler, descending())]
    for position, known in enumerate([40, 41, 0], start=3):
        sampler.extend(0, position, [known])
        drawn.append(greedy_token(sampler, descending()))
    assert drawn == [0, 0, 2, 0]  # after 40 41 both 0 and 1 would complete a word


def test_a_bad_word_may_not_begin_in_the_prompt():
    assert greedy_token(make_sampler(new_row(temperature=0.0, bad_word_ids=((3, 0),))), descending()) == 0
    answered = new_row(temperature=0.0, bad_word_ids=((3, 0),), prompt_len=2)
    assert greedy_token(make_sampler(answered), descending()) == 1


def test_min_tokens_holds_back_every_end():
    sampler = make_sampler(new_row(temperature=0.0, min_tokens=2, stop_token_ids=(1,)), eos=(0, 2))
    assert greedy_token(sampler, descending()) == 3
    sampler.extend(0, 3, [9])
    assert greedy_token(sampler, descending()) == 3
    sampler.extend(0, 4, [9])
    assert greedy_token(sampler, descending()) == 0


def test_min_tokens_leaves_an_ignored_eos():
    sampler = make_sampler(new_row(temperature=0.0, min_tokens=2, stop_token_ids=(1,), ignore_eos=True), eos=(0,))
    assert greedy_token(sampler, descending()) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.sets(st.integers(0, VOCAB - 1), min_size=1)), min_size=1, max_size=5))
def test_masks_allow_exactly_their_bits(allowed):
    sampler = make_sampler(*(new_row(row, temperature=0.0) for row in range(len(allowed))))
    full = set(range(-(-VOCAB // 32) * 32))
    logits = random_logits(len(allowed))
    draws = [Draw(row, 3, 0) for row in range(len(allowed))]
    samples = sampler.sample(logits.clone(), draws, pack([full if row is None else row for row in allowed]))
    for row, sample, some in zip(logits.tolist(), samples, allowed, strict=True):
        assert sample.token_id == max(some or range(VOCAB), key=row.__getitem__)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("params", "mask"),
    [
        ({}, set()),
        ({"allowed_token_ids": (4,)}, {5}),
        ({"allowed_token_ids": (4,), "bad_word_ids": ((4,),), "logit_bias": {4: 100.0}}, None),
        ({"top_k": 3, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 2.0, "frequency_penalty": 2.0}, set()),
    ],
)
def test_contradicting_constraints_draw_the_end_of_sequence(params, mask, temperature):
    masks = None if mask is None else pack([mask, {9}])[:, : -(-VOCAB // 32)]
    sampler = make_sampler(new_row(0, temperature=temperature, **params), new_row(1, allowed_token_ids=(9,)))
    samples = sampler.sample(random_logits(2), [Draw(0, 3, 0), Draw(1, 3, 0)], masks)
    assert [sample.token_id for sample in samples] == [EOS, 9]


def test_contradicting_constraints_without_an_end_draw_token_0():
    sampler = make_sampler(new_row(), eos=())
    assert greedy_token(sampler, random_logits(1)[0], pack([set()])) == 0


def penalized(logits, prompt, answer, repetition, frequency, presence):
    """Penalties by their definitions, a token at a time."""
    scores = logits.double().clone()
    for token in range(len(scores)):
        if token in prompt or token in answer:
            scores[token] = scores[token] / repetition if scores[token] > 0 else scores[token] * repetition
        count = answer.count(token)
        scores[token] -= frequency * count + presence * (count > 0)
    return scores


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.lists(st.integers(0, 19), min_size=1, max_size=8),
    answer=st.lists(st.integers(0, 19), max_size=8),
    known=st.integers(0, 8),
    repetition=st.sampled_from([0.5, 1.0, 1.3]),
    frequency=st.sampled_from([-1.0, 0.0, 0.7]),
    presence=st.sampled_from([-0.5, 0.0, 1.5]),
)
def test_penalties_equal_their_definitions(prompt, answer, known, repetition, frequency, presence):
    """Read off the argmax: a probe token is given every rival's penalised score, and a little more or less."""
    values = {"repetition_penalty": repetition, "frequency_penalty": frequency, "presence_penalty": presence}
    start = [*prompt, *answer[:known]]
    sampler = make_sampler(new_row(token_ids=start, prompt_len=len(prompt), temperature=0.0, **values), vocab=21)
    sampler.extend(0, len(prompt), answer)
    logits = random_logits(1, vocab=21)[0]
    expected = penalized(logits, prompt, answer, repetition, frequency, presence)
    for token in range(20):
        for margin, winner in ((-1e-5, token), (1e-5, 20)):
            probe = torch.full((21,), -math.inf)
            probe[token] = logits[token]
            probe[20] = expected[token] + margin
            assert greedy_token(sampler, probe) == winner


def test_extend_is_idempotent_and_refuses_gaps():
    sampler = make_sampler(new_row(temperature=0.0, frequency_penalty=1.0))
    for _ in range(3):
        sampler.extend(0, 2, [3, 0, 0])
    logits = torch.full((VOCAB,), -9.0)
    logits[0], logits[1] = 2.5, 0.6
    assert greedy_token(sampler, logits) == 1  # 2.5 - 2 < 0.6; once would not be enough
    logits[1] = 0.4
    assert greedy_token(sampler, logits) == 0  # and three times too much
    with pytest.raises(ValueError, match=r"start must be at most the tokens known of row 0 \(5\), got 6"):
        sampler.extend(0, 6, [1])


def test_a_row_forgets_the_sequence_before():
    used = {"allowed_token_ids": (50, 51), "repetition_penalty": 2.0, "logprobs": 1, "top_k": 2}
    sampler = make_sampler(new_row(token_ids=(0, 50), temperature=0.0, **used))
    assert greedy_token(sampler, descending() + 9) == 51
    sampler.set_row(new_row(temperature=0.0))
    sample = sampler.sample(descending()[None] + 9, [Draw(0, 3, 0)], None)[0]
    assert (sample.token_id, sample.logprobs) == (0, None)


def test_logprobs_are_of_the_model_alone():
    params = {"temperature": 0.7, "top_k": 2, "repetition_penalty": 1.5, "logit_bias": {30: 100.0}}
    rows = [new_row(row, logprobs=top, seed=row, **params) for row, top in enumerate([0, 1, 5, 64, None])]
    logits = random_logits(5)
    masks = pack([set(range(30, 128))] * 5)
    samples = make_sampler(*rows).sample(logits.clone(), [Draw(row, 3, 0) for row in range(5)], masks)
    expected = logits.double().log_softmax(dim=-1)
    for row, top in enumerate([0, 1, 5, 64]):
        found = samples[row].logprobs
        best = expected[row].topk(top)
        assert found.token_ids == [samples[row].token_id, *best.indices.tolist()]
        assert found.logprobs == pytest.approx(expected[row, found.token_ids].tolist(), abs=1e-5)
        rank = 1 + int((expected[row] > expected[row, samples[row].token_id]).sum())
        assert found.ranks == [rank, *range(1, top + 1)]
        assert samples[row].token_id == 30
    assert samples[4].logprobs is None


def test_logprobs_wider_than_the_vocabulary_and_masked_logits():
    logits = torch.tensor([[0.0, -math.inf, 1.0]])
    found = token_logprobs(logits, torch.tensor([0]), [64])[0]
    assert found.token_ids == [0, 2, 0, 1]
    assert found.ranks == [2, 1, 2, 3]
    assert found.logprobs == pytest.approx([-1.3132617, -0.3132617, -1.3132617, -math.inf])


def test_prompt_logprobs_in_slices(monkeypatch):
    logits, tokens = random_logits(23), torch.arange(23)
    monkeypatch.setattr("octavo_runtime.sampling.logprobs._SLICE", 5 * VOCAB)
    found = prompt_logprobs(logits, tokens, 3)
    expected = logits.double().log_softmax(dim=-1)
    assert len(found) == 23
    for row, entry in enumerate(found):
        assert entry.token_ids == [row, *expected[row].topk(3).indices.tolist()]
        assert entry.logprobs == pytest.approx(expected[row, entry.token_ids].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("params", "entries"),
    [
        ({"n": 1, "best_of": 3}, 1),
        ({"n": 3, "best_of": 3}, None),
        ({"beam_width": 4}, 9),
        ({"beam_width": 4, "stop_token_ids": (1, 2)}, 17),
    ],
)
def test_best_of_and_beams_get_the_logprobs_that_decide_them(params, entries):
    logits = random_logits(1)
    sample = make_sampler(new_row(**params)).sample(logits.clone(), [Draw(0, 3, 0)], None)[0]
    assert (sample.logprobs and len(sample.logprobs.token_ids)) == entries
    if "beam_width" in params:
        assert sample.token_id == logits.argmax()


KINDS = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.5, "top_p": 0.6},
    {"top_k": 3},
    {"top_k": 9, "top_p": 0.5, "min_p": 0.05},
    {"temperature": 2.0, "min_p": 0.2},
    {"repetition_penalty": 1.2, "presence_penalty": 0.3, "logprobs": 2},
    {"bad_word_ids": ((4,), (2, 5)), "min_tokens": 3, "temperature": 1.5},
    {"allowed_token_ids": tuple(range(0, VOCAB, 3)), "top_p": 0.9},
]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_seed_draws_the_same_alone_and_in_any_crowd(data):
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=8))
    seeds = data.draw(st.lists(st.integers(-(2**63), 2**64), min_size=len(kinds), max_size=len(kinds)))
    places = data.draw(st.permutations(range(16)))[: len(kinds)]
    order = data.draw(st.permutations(range(len(kinds))))
    position, index = data.draw(st.integers(3, 10**6)), data.draw(st.integers(0, 63))
    logits = random_logits(len(kinds), seed=data.draw(st.integers(0, 100)))
    together = make_sampler(
        *(new_row(row, seed=seed, **kind) for row, seed, kind in zip(places, seeds, kinds, strict=True))
    )
    crowd = together.sample(logits[list(order)], [Draw(places[i], position, index) for i in order], None)
    for place, i in enumerate(order):
        alone = make_sampler(new_row(0, seed=seeds[i], **kinds[i]))
        one = alone.sample(logits[i : i + 1].clone(), [Draw(0, position, index)], None)[0]
        assert one.token_id == crowd[place].token_id


@pytest.mark.parametrize(
    ("filters", "kept"),
    [({"top_k": 6}, 6), ({"top_p": 0.75}, 7), ({"min_p": 0.45}, 6), ({"top_k": 9, "top_p": 0.7}, 5)],
)
def test_a_filter_draws_as_if_its_tokens_alone_were_allowed(filters, kept):
    logits = torch.full((VOCAB,), -4.0)
    logits[:10] = torch.tensor([1.0, 0.9, 0.8, 0.6, 0.5, 0.4, 0.1, -0.1, -0.2, -0.3])
    draws = [Draw(0, position, 0) for position in range(500)]
    filtered = make_sampler(new_row(**filters)).sample(logits.expand(500, -1).clone(), draws, None)
    allowed = make_sampler(new_row(allowed_token_ids=tuple(range(kept)))).sample(
        logits.expand(500, -1).clone(), draws, None
    )
    assert filtered == allowed


def test_a_batch_larger_than_a_part_draws_like_each_row_alone(monkeypatch):
    monkeypatch.setitem(sampler_module._SCORES_AT_A_TIME, "cpu", 3 * VOCAB)
    rows = [new_row(row, seed=row, **KINDS[row % len(KINDS)]) for row in range(16)]
    logits = random_logits(16)
    samples = make_sampler(*rows).sample(logits.clone(), [Draw(row, 3, 0) for row in range(16)], None)
    for row, sample in enumerate(samples):
        alone = make_sampler(rows[row]).sample(logits[row : row + 1].clone(), [Draw(row, 3, 0)], None)
        assert alone == [sample]


def test_one_row_may_be_drawn_for_several_answers():
    sampler = make_sampler(new_row(seed=5, logit_bias={1: 1.0}))
    logits = random_logits(1)
    together = sampler.sample(logits.expand(4, -1).clone(), [Draw(0, 3, index) for index in range(4)], None)
    alone = [sampler.sample(logits.clone(), [Draw(0, 3, index)], None)[0] for index in range(4)]
    assert together == alone


def test_a_strided_batch_of_logits():
    """Such as a slice of logits whose vocabulary is padded."""
    rows = [new_row(0, repetition_penalty=1.3, seed=3), new_row(1, logit_bias={3: 2.0}, top_p=0.8)]
    logits = random_logits(2)
    draws = [Draw(0, 3, 0), Draw(1, 3, 0)]
    padded = torch.cat([logits, torch.full((2, 28), 99.0)], dim=-1)
    sampled = make_sampler(*rows).sample(padded[:, :VOCAB], draws, pack([{5, 6, 7}, {1, 2}]))
    assert sampled == make_sampler(*rows).sample(logits.clone(), draws, pack([{5, 6, 7}, {1, 2}]))
