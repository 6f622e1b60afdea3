import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.sampling_params import (
    MAX_LOGPROBS,
    MAX_SEQUENCES,
    InvalidParameter,
    SamplingParams,
    StructuredOutput,
    check_token_ids,
)
from octavo_runtime.text.tokenizer import Tokenizer, load_tokenizer, resolve_params

REFUSED = [
    ("n", 0, f"n must be from 1 to {MAX_SEQUENCES}, got 0"),
    ("n", True, "n must be an integer, got True"),
    ("n", 1.0, "n must be an integer, got 1.0"),
    ("n", 10**6, f"n must be from 1 to {MAX_SEQUENCES}, got 1000000"),
    ("best_of", 65, "best_of must be from 1 to 64, got 65"),
    ("temperature", -0.1, "temperature must be from 0 to 100, got -0.1"),
    ("temperature", math.nan, "temperature must be from 0 to 100, got nan"),
    ("temperature", math.inf, "temperature must be from 0 to 100, got inf"),
    ("temperature", 10**400, "temperature must be from 0 to 100, got 100000000000000000...0000000000000000000"),
    ("temperature", "hot", "temperature must be a number, got 'hot'"),
    ("temperature", None, "temperature must be a number, got None"),
    ("temperature", False, "temperature must be a number, got False"),
    ("top_p", 0.0, "top_p must be above 0, got 0"),
    ("top_p", 1.5, "top_p must be from 0 to 1, got 1.5"),
    ("top_k", -2, "top_k must be from -1 to 2147483647, got -2"),
    ("min_p", 2.0, "min_p must be from 0 to 1, got 2.0"),
    ("presence_penalty", 2.01, "presence_penalty must be from -2 to 2, got 2.01"),
    ("frequency_penalty", -math.inf, "frequency_penalty must be from -2 to 2, got -inf"),
    ("repetition_penalty", 0.0, "repetition_penalty must be from 0.01 to 10, got 0.0"),
    ("repetition_penalty", 11, "repetition_penalty must be from 0.01 to 10, got 11"),
    ("logit_bias", {5: 101.0}, "logit_bias must be from -100 to 100, got 101.0"),
    ("logit_bias", {5: math.nan}, "logit_bias must be from -100 to 100, got nan"),
    ("logit_bias", {-1: 1.0}, "logit_bias must be from 0 to 2147483647, got -1"),
    ("logit_bias", {"5": 1.0}, "logit_bias token ids must be integers, got '5'"),
    ("logit_bias", dict.fromkeys(range(1025), 1.0), "logit_bias must have at most 1024 ids, got 1025"),
    ("logit_bias", [5], "logit_bias must map token ids to numbers, got [5]"),
    ("allowed_token_ids", (2**31,), "allowed_token_ids must be from 0 to 2147483647, got 2147483648"),
    ("allowed_token_ids", (1, True), "allowed_token_ids token ids must be integers, got True"),
    ("allowed_token_ids", (1,) * (2**17 + 1), "allowed_token_ids must have at most 131072 ids, got 131073"),
    ("allowed_token_ids", 7, "allowed_token_ids must be a list, got 7"),
    ("bad_words", ("",), "bad_words strings must have 1 to 1024 characters, got 0"),
    ("bad_words", ("a" * 1025,), "bad_words strings must have 1 to 1024 characters, got 1025"),
    ("bad_words", ("a",) * 257, "bad_words must have at most 256 strings, got 257"),
    ("bad_words", ("a\ud800",), "bad_words must be valid Unicode, has half a surrogate pair at character 1"),
    ("bad_words", "word", "bad_words must be a list, got 'word'"),
    ("bad_word_ids", ((),), "bad_word_ids entries must have at least 1 id, got 0"),
    ("bad_word_ids", ((1, -1),), "bad_word_ids must be from 0 to 2147483647, got -1"),
    ("bad_word_ids", (3,), "bad_word_ids must hold lists of token ids, got 3"),
    ("bad_word_ids", ((1,),) * 513, "bad_word_ids must have at most 512 entries, got 513"),
    ("seed", 2**63, "seed must be from -9223372036854775808 to 9223372036854775807, got 9223372036854775808"),
    ("min_tokens", -1, "min_tokens must be from 0"),
    ("max_tokens", 0, "max_tokens must be from 1"),
    ("max_tokens", 2**31, "max_tokens must be from 1 to 2147483647, got 2147483648"),
    ("stop", ("",), "stop strings must have 1 to 1024 characters, got 0"),
    ("stop", ("a",) * 17, "stop must have at most 16 strings, got 17"),
    ("stop", (b"a",), "stop must hold strings, got b'a'"),
    ("stop_token_ids", (-1,), "stop_token_ids must be from 0"),
    ("stop_token_ids", (1,) * 1025, "stop_token_ids must have at most 1024 ids, got 1025"),
    ("ignore_eos", 1, "ignore_eos must be true or false, got 1"),
    ("skip_special_tokens", None, "skip_special_tokens must be true or false, got None"),
    ("logprobs", -1, f"logprobs must be from 0 to {MAX_LOGPROBS}, got -1"),
    ("logprobs", True, "logprobs must be an integer, got True"),
    ("prompt_logprobs", 65, f"prompt_logprobs must be from 0 to {MAX_LOGPROBS}, got 65"),
    (
        "truncate_prompt_tokens",
        0,
        "truncate_prompt_tokens must be at least 1, or -1 for the most that",
    ),
    ("structured_outputs", {"json": "{}"}, "structured_outputs must be an object, got {'json': '{}'}"),
    ("beam_width", 0, "beam_width must be from 1 to 64, got 0"),
    ("length_penalty", math.inf, "length_penalty must be from -10 to 10, got inf"),
    ("length_penalty", 0.5, "length_penalty needs beam_width, got 0.5"),
    ("early_stopping", True, "early_stopping needs beam_width, got True"),
]


@pytest.mark.parametrize(("field", "value", "words"), REFUSED)
def test_bad_values_name_field_bound_and_value(field, value, words):
    with pytest.raises(InvalidParameter) as caught:
        SamplingParams(**{field: value})
    assert words in str(caught.value)
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["temperature", "n", "stop", "stop_token_ids", "ignore_eos"])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value]], ids=["alone", "in a list"])
def test_integers_too_long_to_print_are_refused(field, wrap):
    with pytest.raises(InvalidParameter, match="got a value too long to print"):
        SamplingParams(**{field: wrap(10**5000)})


WITH_BEAMS = [
    ("best_of", 2),
    ("top_p", 0.9),
    ("top_k", 5),
    ("min_p", 0.1),
    ("presence_penalty", 1.0),
    ("frequency_penalty", 1.0),
    ("repetition_penalty", 1.1),
    ("logit_bias", {1: 1.0}),
    ("allowed_token_ids", (1,)),
    ("bad_words", ("a",)),
    ("min_tokens", 1),
    ("logprobs", 0),
    ("prompt_logprobs", 1),
    ("structured_outputs", StructuredOutput(json_object=True)),
]


@pytest.mark.parametrize(("field", "value"), WITH_BEAMS)
def test_beams_refuse_what_they_would_ignore(field, value):
    got = "$" if field == "structured_outputs" else ", got "  # a form looks otherwise where it was asked for
    with pytest.raises(InvalidParameter, match=f"^{field} cannot be combined with beam_width{got}") as caught:
        SamplingParams(beam_width=4, **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 3, "best_of": 2}, r"best_of must be at least n \(3\), got 2"),
        ({"min_tokens": 5, "max_tokens": 4}, r"min_tokens must be at most max_tokens \(4\), got 5"),
        (
            {"beam_width": 2, "stop_token_ids": (1,) * 17},
            "stop_token_ids must have at most 16 ids with beam_width, got 17",
        ),
        ({"n": 3, "beam_width": 2}, r"n must be at most beam_width \(2\), got 3"),
    ],
)
def test_fields_that_contradict_each_other(changes, words):
    with pytest.raises(InvalidParameter, match=words):
        SamplingParams(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "must have exactly one of json, json_object, regex, choice, grammar; got none"),
        ({"json": "{}", "regex": "a"}, "got json, regex"),
        ({"json_object": 1}, "structured_outputs.json_object must be true or false, got 1"),
        ({"regex": ""}, "structured_outputs.regex strings must have 1 to 1048576 characters, got 0"),
        ({"grammar": 7}, "structured_outputs.grammar must hold strings, got 7"),
        ({"json": "a" * (2**20 + 1)}, "got 1048577"),
        ({"choice": ("a",) * 1025}, "structured_outputs.choice must have at most 1024 strings, got 1025"),
        ({"choice": "yes"}, "structured_outputs.choice must be a list, got 'yes'"),
    ],
)
def test_structured_output_has_exactly_one_form(changes, words):
    with pytest.raises(InvalidParameter) as caught:
        StructuredOutput(**changes)
    assert words in str(caught.value)


HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.lists(
        st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=3)), max_size=3
    ),
    st.dictionaries(st.one_of(st.integers(), st.text(max_size=3)), st.one_of(st.floats(), st.none()), max_size=3),
)


@given(field=st.sampled_from(SamplingParams.__struct_fields__), value=HOSTILE)
def test_any_value_is_either_refused_by_name_or_usable(field, value):
    try:
        params = SamplingParams(**{field: value})
    except InvalidParameter as refused:
        error = refused
    else:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=SamplingParams) == params
        return
    assert error.field == field
    assert "\n" not in str(error)
    assert len(str(error)) < 200


def test_params_cross_the_wire_unchanged():
    params = SamplingParams(
        temperature=0.5,
        stop=("END",),
        seed=-3,
        stop_token_ids=(7,),
        logit_bias={5: -1.0},
        bad_word_ids=((1, 2),),
        structured_outputs=StructuredOutput(choice=("a", "b")),
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=SamplingParams) == params


def test_lists_become_tuples():
    params = SamplingParams(stop=["END"], bad_word_ids=[[1, 2]])
    assert params == SamplingParams(stop=("END",), bad_word_ids=((1, 2),))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stop_token_ids", (1, 100)),
        ("allowed_token_ids", (100,)),
        ("logit_bias", {100: 1.0}),
        ("bad_word_ids", ((1,), (2, 100))),
    ],
)
def test_token_ids_beyond_the_vocabulary(field, value):
    params = SamplingParams(**{field: value})
    check_token_ids(params, 101)
    with pytest.raises(InvalidParameter, match=rf"^{field} .* below the vocabulary's size \(100\), got 100$") as caught:
        check_token_ids(params, 100)
    assert caught.value.field == field


@pytest.fixture(scope="module")
def smollm2() -> Tokenizer:
    return load_tokenizer(locate("builtin://smollm2"))


def test_bad_words_become_ids_with_and_without_a_space(smollm2):
    params = resolve_params(SamplingParams(bad_words=("Paris", " purple elephant")), smollm2)
    texts = {"Paris", " Paris", "purple elephant", " purple elephant"}
    assert {smollm2.decode(ids) for ids in params.bad_word_ids} == texts
    assert len(params.bad_word_ids) == len(texts)
    assert params.bad_words == ("Paris", " purple elephant")
    assert resolve_params(params, smollm2) == params


def test_a_word_of_spaces_is_banned_as_it_is(smollm2):
    assert smollm2.encode("  ", add_special_tokens=False) in map(
        list, resolve_params(SamplingParams(bad_words=("  ",)), smollm2).bad_word_ids
    )


def test_params_without_bad_words_are_returned_as_they_are(smollm2):
    params = SamplingParams(bad_word_ids=((5,),))
    assert resolve_params(params, smollm2) is params


@pytest.mark.parametrize("field", ["stop", "stop_token_ids", "bad_words", "allowed_token_ids", "logit_bias"])
def test_none_is_as_if_left_out(field):
    assert SamplingParams(**{field: None}) == SamplingParams()


def test_one_stop_string_needs_no_list():
    assert SamplingParams(stop="END") == SamplingParams(stop=("END",))


@pytest.mark.parametrize(
    ("last", "max_tokens", "kept"),
    [(None, 4, 12), (2, 4, 2), (20, 4, 12), (-1, 4, 6), (-1, None, 9), (-1, 9, 1), (-1, 10, 9), (-1, 99, 9)],
)
def test_a_prompt_is_cut_to_its_last_tokens(last, max_tokens, kept):
    params = SamplingParams(truncate_prompt_tokens=last, max_tokens=max_tokens)
    prompt = list(range(12))
    assert params.truncate(prompt, 10) == prompt[12 - kept :]
