"""Structured output: random walks over what the masks allow end in answers of the asked form, and nothing that a user
sends takes the engine with it."""

import json
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.sampling_params import InvalidParameter, StructuredOutput
from octavo_runtime.structured import grammars as structured_module
from octavo_runtime.structured.compiler import MAX_BYTES, Vocabulary, grammar_text
from octavo_runtime.structured.grammars import GrammarFailed, Grammars, GrammarsBusy
from octavo_runtime.structured.trial import GrammarTrial
from octavo_runtime.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow

VOCAB_SIZE = 49_160  # of the model: 8 logits more than its tokenizer has tokens
EOS = 2
SCHEMAS = json.loads((Path(__file__).parent / "schemas" / "realistic.json").read_text())
# Formats that jsonschema checks as RFC 3339 and its like define them.
FORMATS = jsonschema.FormatChecker(("date", "email", "ipv4", "ipv6", "uuid"))


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(locate("builtin://smollm2"))


@pytest.fixture(scope="module")
def grammars(tokenizer):
    grammars = Grammars(lambda: tokenizer, VOCAB_SIZE, (EOS,))
    yield grammars
    grammars.close()


@pytest.fixture(scope="module")
def walk(grammars, tokenizer):
    """Draws random tokens from the masks, with a leaning to ends and to single characters, until the answer may end."""
    pieces = {token: tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)}
    closing = {token for token, piece in pieces.items() if piece in (b'"', b"}", b"]")}
    single = {token for token, piece in pieces.items() if len(piece) == 1}

    def run(grammar, seed, steps=800):
        draw = random.Random(seed)
        ids = []
        for _ in range(steps):
            allowed = allowed_ids(grammars, grammar)
            if EOS in allowed:
                grammar.accept([EOS])
                assert grammar.finished
                assert allowed_ids(grammars, grammar) == [EOS]
                return tokenizer.decode(ids)
            kind = draw.random()
            wanted = closing if kind < 0.5 else single if kind < 0.85 else set(allowed)
            ids.append(draw.choice([token for token in allowed if token in wanted] or allowed))
            grammar.accept(ids[-1:])
        pytest.fail(f"no end after {steps} tokens: {tokenizer.decode(ids)[:200]!r}")

    return run


def unpack(mask):
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


def allowed_ids(grammars, grammar):
    allowed = unpack(grammars.fill_masks([grammar])[0])
    assert grammar.failure is None
    return allowed


def num_accepted(grammar, token_ids):
    """How many of these tokens may follow one another, from the first on."""
    one = grammar.fork()
    for number, token in enumerate(token_ids):
        try:
            one.accept([token])
        except GrammarFailed:
            return number
    return len(token_ids)


def compiled(grammars, **source):
    return grammars.compile(StructuredOutput(**source)).result()


@pytest.mark.parametrize("case", SCHEMAS, ids=lambda case: case["name"])
def test_answers_satisfy_their_schema(grammars, walk, case):
    text = walk(compiled(grammars, json=json.dumps(case["schema"])), case["name"])
    jsonschema.validate(json.loads(text), case["schema"], format_checker=FORMATS)


def test_json_object_is_an_object(grammars, walk):
    for seed in range(5):
        text = walk(compiled(grammars, json_object=True), seed)
        assert text.startswith("{")
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{3}-\d{4}",
        r"^(yes|no)$",
        r"[A-Z][a-z]{1,5}( [A-Z][a-z]{1,5})?",
        r"a/b|c\\d",
        r"[ab]\\\\",
        'say "[a-z]{2}"\n',
        r"(?i)ok\.?",
        r"[äöü]{2,4}",
        r"(\d{1,3}\.){3}\d{1,3}",
    ],
)
def test_answers_match_their_regex(grammars, walk, pattern):
    for seed in range(3):
        assert re.fullmatch(pattern, walk(compiled(grammars, regex=pattern), seed))


def test_answers_are_one_of_the_choices(grammars, walk):
    choices = ("yes", "yes, but", 'a "quoted" one', "line\nbreak", "\\", "naïve 日本 😀", "/x/", " ")
    seen = {walk(compiled(grammars, choice=choices), seed) for seed in range(60)}
    assert seen <= set(choices)
    assert len(seen) > 3


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        ('start: word " " NAME\nword: "hi" | "hello"\nNAME: /[A-Z][a-z]{1,8}/', r"(hi|hello) [A-Z][a-z]+"),
        ('root ::= word " " name\nword ::= "hi" | "hello"\nname ::= [A-Z] [a-z]{1,8}', r"(hi|hello) [A-Z][a-z]+"),
        ('root ::= "(" root ")" | "x"', r"\(*x\)*"),
        ('start: expr\nexpr: NUMBER | expr "+" NUMBER\nNUMBER: /[0-9]{1,2}/', r"\d{1,2}(\+\d{1,2})*"),
        ('start: "answer: " %json {"type": "integer", "minimum": 0, "maximum": 9}', r"answer: \d"),
    ],
)
def test_answers_follow_their_grammar(grammars, walk, grammar, pattern):
    for seed in range(3):
        assert re.fullmatch(pattern, walk(compiled(grammars, grammar=grammar), seed))


def test_whitespace_is_flexible_but_bounded(grammars, tokenizer):
    schema = '{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}},"required":["a"]}'
    value = {"a": [1, 2]}
    for text in (json.dumps(value), json.dumps(value, separators=(",", ":")), json.dumps(value, indent=2)):
        ids = tokenizer.encode(text, add_special_tokens=False)
        grammar = compiled(grammars, json=schema)
        assert num_accepted(grammar, ids) == len(ids)
        grammar.accept(ids)
        assert grammar.finished
    blanks = tokenizer.encode("{\n" + " " * 60 + '"a"', add_special_tokens=False)
    assert num_accepted(compiled(grammars, json=schema), blanks) < len(blanks)


@pytest.mark.parametrize(
    ("source", "field", "words"),
    [
        ({"json": "{"}, "json", "is malformed"),
        ({"json": "[1]"}, "json", "must be an object, got list"),
        ({"json": "true"}, "json", "must be an object, got bool"),
        ({"json": '{"x-guidance": 3}'}, "json", "x-guidance must be an object, got int"),
        ({"json": '{"type": "strin"}'}, "json", "strin"),
        ({"json": '{"type": 3}'}, "json", "type must be a string"),
        ({"json": '{"type": "object", "properties": 3}'}, "json", "properties: must be an object, got int"),
        ({"json": '{"$ref": "#/$defs/nowhere"}'}, "json", "nowhere"),
        ({"json": '{"$ref": "https://example.com/schema"}'}, "json", "$ref: must be a place in the schema"),
        ({"json": '{"type": "string", "pattern": "("}'}, "json", "does not compile"),
        ({"regex": "\\"}, "regex", "must not end in a backslash that escapes nothing"),
        ({"regex": "a\\\\\\"}, "regex", r"escapes nothing, got 'a\\\\\\'"),
        ({"json": r'{"type": "string", "pattern": "a\\"}'}, "json", "pattern: must not end in a backslash"),
        ({"json": r'{"patternProperties": {"^a\\": {}}}'}, "json", r"patternProperties.^a\: must not end in a"),
        (
            {"json": '{"items": {"contains": {"const": 1}}}'},
            "json",
            "cannot be kept to: items.contains: is not supported",
        ),
        ({"json": '{"not": {"type": "string"}}'}, "json", "not: is not supported"),
        ({"json": '{"type": "integer", "minimum": 5, "maximum": 4}'}, "json", "minimum"),
        ({"json": '{"$ref": "#"}'}, "json", "allows no answer"),
        ({"json": "9" * 5000}, "json", "is malformed"),
        ({"regex": "("}, "regex", "unclosed group"),
        ({"regex": "[z-a]"}, "regex", "invalid character class range"),
        ({"regex": "a{2,1}"}, "regex", "invalid repetition count range"),
        ({"regex": r"(a)\1"}, "regex", "backreferences are not supported"),
        ({"regex": "a(?=b)"}, "regex", "look-around"),
        ({"grammar": "no grammar at all"}, "grammar", "is malformed"),
        ({"grammar": "start: missing"}, "grammar", "missing"),
        ({"grammar": 'start: "a'}, "grammar", "does not compile"),
        ({"grammar": 'root ::= "a" unknown'}, "grammar", "Rule 'unknown' not found"),
        ({"grammar": 'expr ::= "a"'}, "grammar", "No 'root' rule found"),
        ({"grammar": 'root ::= "a" ("b"'}, "grammar", "Expected ')'"),
        ({"grammar": "start: start"}, "grammar", "allows no answer"),
    ],
)
def test_malformed_sources_are_refused_in_one_line(grammars, source, field, words):
    with pytest.raises(InvalidParameter) as caught:
        compiled(grammars, **source)
    assert caught.value.field == f"structured_outputs.{field}"
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


INNER = [
    ({"type": "foo"}, "Invalid type: foo"),
    ({"type": "string", "pattern": "["}, "unclosed character class"),
    ({"type": "integer", "minimum": 3.2, "maximum": 3.5}, "contains no integer"),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible types"),
    ({"$ref": "#/$defs/nowhere"}, "does not exist"),
]
AROUND = {
    "properties.a": lambda inner: {"type": "object", "properties": {"ok": {"$ref": "#/$defs/x"}, "a": inner}},
    "properties.a.items.anyOf.0": lambda inner: {
        "type": "object",
        "properties": {"a": {"type": "array", "minItems": 1, "items": {"anyOf": [inner]}}},
    },
    "properties.a.prefixItems.1": lambda inner: {
        "type": "object",
        "properties": {"a": {"type": "array", "minItems": 2, "prefixItems": [{"type": "null"}, inner]}},
    },
}


@pytest.mark.parametrize("form", ["json", "grammar"])
@pytest.mark.parametrize("place", AROUND)
@pytest.mark.parametrize(("inner", "words"), INNER)
def test_what_does_not_compile_is_told_by_its_place(grammars, inner, words, place, form):
    schema = json.dumps({**AROUND[place](inner), "required": ["a"], "$defs": {"x": {"type": "string"}}})
    source = schema if form == "json" else f"start: answer\nanswer: %json {schema}\n"
    with pytest.raises(InvalidParameter) as caught:
        compiled(grammars, **{form: source})
    assert f"{place}: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("spelling", ["%json{}", "%json\n{}", "%json {} | %json {}"])
def test_the_place_is_found_however_a_grammar_spells_its_schema(grammars, spelling):
    schema = '{"type": "object",\n"properties": {"a": {"type": "foo"}}}'
    with pytest.raises(InvalidParameter, match=r"Invalid type: foo"):
        compiled(grammars, grammar="start: answer\nanswer: " + spelling.replace("{}", schema))


def nested(depth):
    return '{"properties":{"a":' * depth + "{}" + "}}" * depth


def doubling(levels, keyword):
    defs = {f"d{level}": {keyword: [{"$ref": f"#/$defs/d{level + 1}"}] * 2, "minLength": 1} for level in range(levels)}
    return json.dumps({"$ref": "#/$defs/d0", "$defs": {**defs, f"d{levels}": {"type": "string"}}})


def products(factors, terms):
    return json.dumps(
        {
            "allOf": [
                {"anyOf": [{"properties": {f"p{f}_{t}": {}}, "required": [f"p{f}_{t}"]} for t in range(terms)]}
                for f in range(factors)
            ]
        }
    )


def intersection(count):
    patterns = [f"a.{{{number}}}b" for number in range(5, 5 + count)]
    return json.dumps({"allOf": [{"type": "string", "pattern": pattern} for pattern in patterns]})


HOSTILE = {
    "deep": {"json": nested(10_000 // 4)},
    "large": {"json": json.dumps({"type": "string", "description": "x" * 1_000_000})},
    "large_choice": {"choice": tuple(f"{number:0600}" for number in range(1_000))},
    "huge_enum": {"json": json.dumps({"enum": [f"value {number}" for number in range(8_000)]})},
    "many_optional": {"json": json.dumps({"properties": {f"p{number}": {} for number in range(8_000)}})},
    "counted": {"regex": "(a?){5000}a{5000}"},
    "long_class": {"regex": "[a-z]{1,100000}"},
    "nested_counts": {"regex": "((((a{1,100}){1,100}){1,100}){1,100}){1,100}"},
    "wide_counts": {"regex": r"(\w{1,500}\s?){1,500}"},
    "states": {"regex": "(?:[ab]*a[ab]{60}){4}x"},
    "deep_regex": {"regex": "(" * 5_000 + "a" + ")*" * 5_000},
    "long_regex": {"regex": "[abc]" * 25_000},
    "intersection": {"json": intersection(55)},
    "shared_refs": {"json": doubling(40, "anyOf")},
    "merged_refs": {"json": doubling(40, "allOf")},
    "products": {"json": products(6, 4)},
    "circular": {"json": '{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}'},
    "divisor": {"json": '{"type": "integer", "multipleOf": 98765432}'},
    "divisors": {"json": json.dumps({"properties": {f"p{n}": {"multipleOf": 98765432 + n} for n in range(20)}})},
    "ambiguous": {"grammar": 'start: s\ns: s s s | s s | "a" |'},
    "chain": {"grammar": "start: r0\n" + "".join(f'r{n}: "k" r{n + 1}?\n' for n in range(5_000)) + 'r5000: "a"'},
    "deep_grammar": {"grammar": "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000},
    "long_literal": {"grammar": 'start: "' + "x" * 100_000 + '"'},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sources_end_within_their_limits(grammars, walk, name):
    """Refused, or stopped at some token, or bounded all along; and the next request is served as before."""
    error = None
    try:
        grammar = compiled(grammars, **HOSTILE[name])
        draw = random.Random(0)
        neighbour = compiled(grammars, json_object=True)
        for _ in range(40):
            # With a second row the masks are computed on the library's own threads, whose stacks are smaller.
            allowed = unpack(grammars.fill_masks([grammar, neighbour])[0])
            if grammar.failure or grammar.finished:
                break
            grammar.accept([draw.choice(allowed)])
        error = grammar.failure
    except (InvalidParameter, GrammarFailed) as refused:
        error = refused
    assert "\n" not in str(error)
    assert walk(compiled(grammars, choice=(f"after {name}",)), 0) == f"after {name}"


def test_sources_have_a_largest_size(grammars):
    with pytest.raises(InvalidParameter, match=rf"json must have at most {MAX_BYTES} bytes, got {MAX_BYTES + 1}"):
        compiled(grammars, json=" " * (MAX_BYTES + 1))


def byte_vocabulary():
    return Vocabulary(
        tokens=[*(bytes([byte]) for byte in range(256)), b"<eos>"], special_ids=[256], eos_token_ids=[256]
    )


@pytest.mark.parametrize(
    ("limits", "name", "words"),
    [
        ({"cpu_seconds": 1, "memory": 4 << 30}, "divisors", "json is too complex: must compile in 1 s"),
        ({"cpu_seconds": 60, "memory": 200 << 20}, "intersection", "json is too complex: must compile in 200 MiB"),
    ],
)
def test_a_trial_ends_at_its_limit_and_starts_again(limits, name, words):
    trial = GrammarTrial(byte_vocabulary(), **limits)
    try:
        with pytest.raises(InvalidParameter, match=words):
            trial.compile(StructuredOutput(**HOSTILE[name]))
        assert "answer" in trial.compile(StructuredOutput(regex="ab"))
    finally:
        trial.close()


def test_a_failure_at_one_step_leaves_the_other_rows_alone(grammars):
    bad = compiled(grammars, regex=HOSTILE["nested_counts"]["regex"])
    good = compiled(grammars, choice=("aaa",))
    alone = grammars.fill_masks([good])[0]
    for _ in range(50):
        masks = grammars.fill_masks([bad, good, None])
        if bad.failure:
            break
        bad.accept([unpack(masks[0])[-1]])
    assert isinstance(bad.failure, GrammarFailed)
    assert unpack(masks[0]) == [EOS]
    with pytest.raises(GrammarFailed, match="too many expressions"):
        bad.accept([EOS])
    assert good.failure is None
    np.testing.assert_array_equal(masks[1], alone)
    assert (masks[2] == -1).all()


def test_masks_of_a_batch_equal_those_of_each_alone(grammars):
    draw = random.Random(1)
    cases = draw.sample(SCHEMAS, 12)
    rows = [compiled(grammars, json=json.dumps(case["schema"])) for case in cases]
    for _ in range(10):
        masks = grammars.fill_masks([*rows, None])
        assert masks.shape == (len(rows) + 1, -(-VOCAB_SIZE // 32))
        assert masks.dtype == np.int32
        for row, mask in zip(rows, masks, strict=False):
            np.testing.assert_array_equal(grammars.fill_masks([row])[0], mask)
            allowed = unpack(mask)
            assert max(allowed) < 49_152
            row.accept([draw.choice(allowed)])


def test_no_rows_and_no_grammars(grammars):
    assert grammars.fill_masks([]).shape == (0, -(-VOCAB_SIZE // 32))
    assert (grammars.fill_masks([None, None]) == -1).all()


def test_wrong_tokens_are_refused(grammars, tokenizer):
    yes, no = (tokenizer.encode(word, add_special_tokens=False) for word in ("yes", "no"))
    grammar = compiled(grammars, choice=("yes",))
    assert num_accepted(grammar, no) == 0
    assert num_accepted(grammar, [*yes, *no]) == len(yes)
    assert not grammar.finished
    with pytest.raises(GrammarFailed):
        grammar.accept(no)
    assert grammar.failure is not None
    assert not grammar.finished
    ended = compiled(grammars, choice=("yes",))
    ended.accept([*yes, EOS])
    with pytest.raises(GrammarFailed):
        ended.accept(yes)
    beyond = compiled(grammars, choice=("yes",))
    with pytest.raises(GrammarFailed):
        beyond.accept([VOCAB_SIZE])


def test_special_tokens_do_not_count_as_their_text(grammars, tokenizer):
    grammar = compiled(grammars, choice=("<|im_start|>",))
    special = tokenizer.encode("<|im_start|>", add_special_tokens=False)
    plain = tokenizer.encode("<|im_start|>", add_special_tokens=False, allow_special=False)
    assert num_accepted(grammar, special) == 0
    assert num_accepted(grammar, plain) == len(plain)


def test_a_fork_goes_its_own_way(grammars, tokenizer):
    first = compiled(grammars, choice=("one two", "one three"))
    first.accept(tokenizer.encode("one", add_special_tokens=False))
    second = first.fork()
    first.accept(tokenizer.encode(" two", add_special_tokens=False))
    assert first.finished
    assert not second.finished
    second.accept(tokenizer.encode(" three", add_special_tokens=False))
    assert second.finished


def test_each_answer_starts_at_the_start(grammars, walk):
    assert [walk(compiled(grammars, choice=("again",)), seed) for seed in range(3)] == ["again"] * 3


def test_every_end_of_sequence_token_ends_an_answer(tokenizer):
    grammars = Grammars(lambda: tokenizer, tokenizer.vocab_size, (EOS, 0))
    try:
        grammar = compiled(grammars, regex="a?")
        assert {0, EOS} < set(allowed_ids(grammars, grammar))
        for end in (0, EOS):
            ended = grammar.fork()
            ended.accept([end])
            assert ended.finished
            assert allowed_ids(grammars, ended) == [0, EOS]
    finally:
        grammars.close()


def test_a_model_without_an_end_is_refused(tokenizer):
    with pytest.raises(InvalidParameter, match="no end-of-sequence token"):
        compiled(Grammars(lambda: tokenizer, 100, (49_151,)), regex="a")


class Recorder:
    """Stands in for the trial process: counts, and waits where it is told to."""

    def __init__(self):
        self.sources = []
        self.go_on = threading.Event()
        self.go_on.set()

    def compile(self, structured):
        self.sources.append(structured)
        self.go_on.wait()
        if structured.regex == "bad":
            raise InvalidParameter("structured_outputs.regex", "is bad")
        return grammar_text(structured)

    def close(self):
        self.go_on.set()


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(structured_module, "GrammarTrial", lambda _: recorder)
    return recorder


def test_nothing_is_built_before_the_first_request(recorder, tokenizer, monkeypatch):
    asked = []
    known = tokenizer.token_bytes
    monkeypatch.setattr(tokenizer, "token_bytes", lambda *args, **keys: asked.append(1) or known(*args, **keys))
    threads = threading.active_count()
    grammars = Grammars(lambda: tokenizer, VOCAB_SIZE, (EOS,))
    assert (len(asked), threading.active_count()) == (0, threads)
    compiled(grammars, regex="a")
    assert len(asked) == VOCAB_SIZE
    grammars.close()
    assert threading.active_count() == threads


def test_outcomes_are_kept_up_to_a_bound(recorder, tokenizer, monkeypatch):
    monkeypatch.setattr(structured_module, "MAX_COMPILED", 2)
    grammars = Grammars(lambda: tokenizer, VOCAB_SIZE, (EOS,))
    for regex in ("a", "b", "a", "bad", "bad", "a", "b"):
        answer = grammars.compile(StructuredOutput(regex=regex))
        assert (answer.exception() is not None) == (regex == "bad")
    assert [source.regex for source in recorder.sources] == ["a", "b", "bad", "b"]
    assert grammars.compile(StructuredOutput(regex="b")).done()
    grammars.close()


def test_the_queue_has_an_end(recorder, tokenizer, monkeypatch):
    monkeypatch.setattr(structured_module, "MAX_PENDING", 2)
    grammars = Grammars(lambda: tokenizer, VOCAB_SIZE, (EOS,))
    recorder.go_on.clear()
    waiting = [grammars.compile(StructuredOutput(regex=regex)) for regex in ("a", "b")]
    with pytest.raises(GrammarsBusy, match="at most 2"):
        compiled(grammars, regex="c")
    recorder.go_on.set()
    assert [answer.exception() for answer in waiting] == [None, None]
    assert compiled(grammars, regex="c").failure is None
    grammars.close()


def test_a_process_that_cannot_start_is_tried_again(recorder, tokenizer, monkeypatch):
    grammars = Grammars(lambda: tokenizer, VOCAB_SIZE, (EOS,))
    compile_ = recorder.compile
    monkeypatch.setattr(recorder, "compile", lambda _: subprocess.Popen(["/no/such/program"]))
    with pytest.raises(GrammarsBusy, match="no process to compile a grammar"):
        compiled(grammars, regex="a")
    monkeypatch.setattr(recorder, "compile", compile_)
    assert compiled(grammars, regex="a").failure is None
    grammars.close()


def test_closing_leaves_no_process(tokenizer):
    grammars = Grammars(lambda: tokenizer, VOCAB_SIZE, (EOS,))
    grammars.close()
    trial = GrammarTrial(byte_vocabulary())
    trial.compile(StructuredOutput(regex="a"))
    process = trial._process
    trial.close()
    assert process.poll() is not None


def test_needs_no_torch():
    code = "import sys, octavo_runtime.structured; sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
