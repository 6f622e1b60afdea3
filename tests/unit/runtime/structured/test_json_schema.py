"""JSON schemas as clients write them: what of them a grammar keeps to, what is ignored by name, and what is refused."""

import itertools
import json
import random
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from octavo_runtime.protocol.sampling_params import InvalidParameter, StructuredOutput
from octavo_runtime.structured.alternatives import Definitions, disjoint
from octavo_runtime.structured.compiler import Vocabulary, build_tokenizer, compile_matcher, grammar_text
from octavo_runtime.structured.json_schema import MAX_OPTIONAL, UnsupportedSchema, adapt
from octavo_runtime.structured.look_around import without_look_around

EOS = 256
TOKENIZER = build_tokenizer(
    Vocabulary(tokens=[*(bytes([byte]) for byte in range(256)), b"<eos>"], special_ids=[EOS], eos_token_ids=[EOS])
)
# zod 4.6 and 3.25 (zod-to-json-schema 3.25), pydantic 2.12 to 2.14, and what people write by hand. `wider`: values that
# only the grammar takes, for JSON Schema does not know the keyword; `narrower`: the pattern takes more than it means
# to; `dialect`: JSON Schema's draft, where it is older.
WRITTEN = json.loads((Path(__file__).parent / "schemas" / "written.json").read_text())
FORMATS = jsonschema.FormatChecker(("date", "email", "ipv4", "ipv6", "uuid"))


def matcher(schema):
    structured = StructuredOutput(json=json.dumps(schema))
    return compile_matcher(TOKENIZER, structured, grammar_text(structured))


def takes(schema, value):
    """Whether an answer of exactly this value may be written."""
    tokens = [*json.dumps(value, ensure_ascii=False).encode(), EOS]
    return matcher(schema).validate_tokens(tokens) == len(tokens)


def valid(case, schema, value):
    default = jsonschema.validators.validator_for({"$schema": case.get("dialect", "")}, jsonschema.Draft202012Validator)
    return default(schema, format_checker=FORMATS).is_valid(value)


def without(schema, places):
    """`schema` without the keywords at these places."""
    schema = json.loads(json.dumps(schema))
    for place in places:
        *steps, keyword = place.split(".")
        node = schema
        for step in steps:
            node = node[int(step) if isinstance(node, list) else step]
        del node[keyword]
    return schema


def walked(compiled, seed, steps=300):
    """A random answer, with a leaning to ends; None where none comes about."""
    draw, text = random.Random(seed), b""
    for _ in range(steps):
        mask = allocate_token_bitmask(1, EOS + 1)
        fill_next_token_bitmask(compiled, mask)
        allowed = np.flatnonzero(np.unpackbits(mask[0].view(np.uint8), bitorder="little")).tolist()
        if EOS in allowed:
            return text.decode(errors="replace")
        closing = [byte for byte in allowed if byte in b'"}]']
        plain = [byte for byte in allowed if 32 <= byte < 127 and byte != ord("\\")]
        byte = draw.choice((closing if draw.random() < 0.4 else plain) or plain or allowed)
        text += bytes([byte])
        assert compiled.consume_token(byte)
    return None


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case["name"])
def test_schemas_as_clients_write_them(case):
    schema, ignored = case["schema"], case.get("ignored", [])
    assert adapt(schema).ignored == ignored
    for value in case["accepted"]:
        assert takes(schema, value), value
        assert valid(case, schema, value), value
    for value in case.get("wider", []):
        assert takes(schema, value), value
    for value in case["refused"]:
        assert not takes(schema, value), value
        assert case.get("narrower") or not valid(case, schema, value), value


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case["name"])
def test_every_answer_keeps_to_the_schema_as_it_was_sent(case):
    """But for what is ignored by name."""
    schema = without(case["schema"], case.get("ignored", []))
    compiled, found = matcher(case["schema"]), 0
    for seed in range(4):
        if (text := walked(compiled.deep_copy(), seed)) is not None:
            value = json.loads(text)
            assert valid(case, schema, value) or value in case.get("wider", []), text
            found += 1
    assert found


OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"properties": {"x": {"pattern": "a(?=b)"}}}, "properties.x.pattern: look-around is not supported"),
        ({"items": {"pattern": r"\bword"}}, r"items.pattern: look-around is not supported, and \b is that"),
        ({"not": {"type": "string"}}, "not: is not supported"),
        ({"properties": {"x": {"not": {"required": ["a"]}}}}, "properties.x.not: is not supported"),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, "if: is not supported"),
        ({"type": "array", "contains": {"const": 1}}, "contains: is not supported"),
        ({"anyOf": [{"type": "array", "contains": {}}]}, "anyOf.0.contains: is not supported"),
        ({"$ref": "#/$defs/a", "unevaluatedProperties": False, "$defs": {"a": OBJECT}}, "unevaluatedProperties: is"),
        ({"anyOf": [OBJECT], "unevaluatedProperties": False}, "unevaluatedProperties: is not supported"),
        ({"propertyNames": {"format": "email"}}, "propertyNames: is not supported with format"),
        ({"propertyNames": {"minLength": 2}, "properties": {"ab": {}}}, "propertyNames: is not supported beside"),
        ({"propertyNames": {"type": "integer"}}, "propertyNames: must be a schema of strings"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf: must have alternatives that no value fits two"),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, "got 0 and 1"),
        ({"oneOf": [{"const": n} for n in range(129)]}, "oneOf: must have at most 128 alternatives, got 129"),
        ({"properties": {f"p{n}": {} for n in range(MAX_OPTIONAL + 1)}}, "properties: must have at most 240 that are"),
        ({"$ref": "other.json#/a"}, "$ref: must be a place in the schema itself (#/...), got other.json#/a"),
        ({"$ref": "#anchor", "$anchor": "anchor"}, "$ref: must be a place in the schema itself"),
        ({"$dynamicRef": "#a"}, "$dynamicRef: is not supported"),
        ({"patternProperties": {"^(?=a)b": {}}}, "patternProperties.^(?=a)b: look-around is not supported in names"),
        ({"properties": {"a": 3}}, "properties.a: must be an object or a boolean, got int"),
        ({"properties": []}, "properties: must be an object, got list"),
        ({"items": {"enum": 3}}, "items.enum: must be an array, got int"),
        ({"minLength": "3"}, "minLength: must be an integer, got str"),
        ({"minimum": 10**18}, "minimum: must be below 10^18, got 1000000000000000000"),
        ({"items": {"type": "integer", "exclusiveMinimum": 10**18 - 1}}, "items.exclusiveMinimum: must be below 10^18"),
        ({"type": ["null", "number"], "maximum": -1e30}, "maximum: must be above -10^18, got -1e+30"),
    ],
)
def test_what_no_grammar_keeps_to_is_refused_with_its_place(schema, words):
    with pytest.raises(UnsupportedSchema) as caught:
        adapt(schema)
    assert words in str(caught.value)
    with pytest.raises(InvalidParameter, match=r"^structured_outputs\.json cannot be kept to: "):
        grammar_text(StructuredOutput(json=json.dumps(schema)))


@pytest.mark.parametrize("name", ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"])
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_bounds_up_to_the_largest_compile(kind, name):
    matcher({"type": kind, name: (1 if "inimum" in name else -1) * (10**18 - 65)})
    matcher({"type": "string", name: 10**18})
    matcher({"type": "string", name: -(10**18)})


def test_as_many_optional_properties_as_there_may_be():
    """At every step of an answer, not only at its start."""
    schema = {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(MAX_OPTIONAL)}}
    assert takes(schema, {"p0": 1, "p7": 2, "p239": 3, "other": []})


def test_as_many_choices_as_there_may_be():
    structured = StructuredOutput(choice=tuple(f"choice {n}" for n in range(1024)))
    compiled = compile_matcher(TOKENIZER, structured, grammar_text(structured))
    tokens = [*b"choice 1023", EOS]
    assert compiled.validate_tokens(tokens) == len(tokens)
    for token in tokens:
        compiled.compute_bitmask()
        assert compiled.consume_token(token), compiled.get_error()


def test_a_schema_is_not_changed():
    for case in WRITTEN:
        before = json.dumps(case["schema"])
        adapt(case["schema"])
        assert json.dumps(case["schema"]) == before


DECIMAL = r"^(?!^[-+.]*$)[+-]?0*"


@pytest.mark.parametrize(
    ("pattern", "letters", "longest"),
    [
        (WRITTEN[0]["schema"]["pattern"], "a.'@", 7),
        (r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$", "P1TMS", 6),
        (DECIMAL + r"\d*\.?\d*$", "01.-", 7),
        (DECIMAL + r"\d*\.?\d{0,2}0*$", "01.-", 7),
        (DECIMAL + r"\d*\.?\d{0,0}0*$", "01.-", 7),
        # Without the closing mark that pydantic leaves out of the first alternative, these take almost any text.
        (DECIMAL + r"(?:\d{0,3}$|(?=[\d.]{1,6}0*$)\d{0,3}\.\d{0,2}0*$)", "01.-", 8),
        (DECIMAL + r"(?:\d{0,2}$|(?=[\d.]{1,3}0*$)\d*\.\d*0*$)", "01.-", 8),
        (DECIMAL + r"(?:\d{0,0}$|(?=[\d.]{1,3}0*$)\d{0,0}\.\d{0,5}0*$)", "01.-", 8),
        (r"^(?=.*a)(?=.{2,3}$)[ab|]+$", "ab|", 5),
    ],
)
def test_patterns_spelt_out_take_the_same_texts(pattern, letters, longest):
    spelt_out = without_look_around(pattern.replace("}$|(?=", "}|(?="))
    for length in range(longest + 1):
        for text in map("".join, itertools.product(letters, repeat=length)):
            expected = re.search(pattern, text) is not None
            assert all(re.search(one, text) for one in spelt_out) == expected, text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["^", "(?=", "(?!", "(?:", "(", ")", "[(?=]", r"[\])]", "|", "a", r"\(", "$", "*"]), max_size=9
    )
)
def test_no_pattern_is_read_wrong(parts):
    """What is taken apart means what it meant; all else is refused, or left to the compiler."""
    pattern = "".join(parts)
    try:
        expected = re.compile(pattern)
        spelt_out = without_look_around(pattern)
    except (re.error, ValueError, RecursionError):
        return
    for text in ("", "a", "aa", "(", "]", "a(]", "|a"):
        assert all(re.search(one, text) for one in spelt_out) == bool(expected.search(text))


SMALL = st.recursive(
    st.sampled_from(
        [{}, True, False, {"type": "integer"}, {"type": ["number", "null"]}, {"const": 1}, {"enum": ["a", 2]}]
    )
    | st.builds(lambda kind: {"type": kind}, st.sampled_from(["string", "null", "boolean", "array", "object"])),
    lambda inner: (
        st.builds(lambda many: {"anyOf": many}, st.lists(inner, min_size=1, max_size=2))
        | st.builds(
            lambda one, other, required: {"type": "object", "properties": {"t": one, "x": other}, "required": required},
            inner,
            inner,
            st.sampled_from([[], ["t"], ["t", "x"]]),
        )
    ),
    max_leaves=4,
)
VALUES = [None, True, 1, 2, 1.5, "a", "b", [], {}, {"t": 1}, {"t": "a", "x": 2}, {"t": None, "x": "b"}, {"x": {}}]


@settings(max_examples=200, deadline=None)
@given(SMALL, SMALL)
def test_no_value_fits_two_schemas_that_are_told_apart(one, other):
    if disjoint(one, other, Definitions({})):
        assert not [value for value in VALUES if valid_alone(one, value) and valid_alone(other, value)]


def valid_alone(schema, value):
    return jsonschema.Draft202012Validator(schema).is_valid(value)
