import math

import msgspec
import pytest

from octavo_runtime.sampling_params import InvalidParameter, SamplingParams


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("temperature", -0.1, "temperature must be from 0 to 100, got -0.1"),
        ("temperature", math.nan, "temperature must be from 0 to 100, got nan"),
        ("temperature", math.inf, "got inf"),
        ("top_p", 0.0, "top_p must be above 0, got 0"),
        ("top_p", 1.5, "top_p must be from 0 to 1, got 1.5"),
        ("top_k", -2, "top_k must be from -1"),
        ("min_p", 2.0, "min_p must be from 0 to 1, got 2.0"),
        ("seed", 2**63, "seed must be"),
        ("max_tokens", 0, "max_tokens must be from 1"),
        ("stop", ("",), "stop strings must have 1 to 1024 characters, got 0"),
        ("stop", ("a",) * 17, "stop must have at most 16 strings, got 17"),
        ("stop_token_ids", (-1,), "stop_token_ids must be from 0"),
    ],
)
def test_bad_values_name_field_bound_and_value(field, value, words):
    with pytest.raises(InvalidParameter, match=words.replace("+", r"\+")) as caught:
        SamplingParams(**{field: value})
    assert caught.value.field == field


def test_params_cross_the_wire_unchanged():
    params = SamplingParams(temperature=0.5, stop=("END",), seed=-3, stop_token_ids=(7,))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=SamplingParams) == params
