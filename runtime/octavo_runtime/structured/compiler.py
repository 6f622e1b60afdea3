"""From a StructuredOutput to a matcher that says which tokens may come next, by llguidance.

Grammar format: github.com/guidance-ai/llguidance, docs/syntax.md and docs/json_schema.md. Needs no torch."""

import json
import re
from types import SimpleNamespace
from typing import Any

import msgspec
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark
from llguidance.gbnf_to_lark import any_to_lark

from octavo_runtime.protocol.sampling_params import InvalidParameter, StructuredOutput
from octavo_runtime.structured.fault import fault
from octavo_runtime.structured.json_schema import UnsupportedSchema, adapt, fault_of_end

MAX_BYTES = 512 * 1024  # of a source; what it costs is bounded where it is tried, see structured.trial
MAX_REASON = 160  # characters of one line of a reason

# What one compilation and one step may cost; llguidance ends a grammar that needs more with an error.
LIMITS = LLParserLimits(
    max_items_in_row=1_000,
    initial_lexer_fuel=500_000,
    step_lexer_fuel=100_000,
    step_max_items=20_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)

# One space, or a new line with its indentation: enough for compact and for pretty-printed JSON, while a model cannot
# go on with blanks until its limit.
_WHITESPACE = r"\x20|\r?\n[\x20\t]{0,40}"

# A parser's drawing of the place, below its message.
_DRAWING = re.compile(r"\n +\d+ \| .*", re.DOTALL)

# Forcing would call back into Python for each literal, once a step and over all of the literal.
_ROOT = '%llguidance {"no_forcing": true}\nstart: @answer\n'


class Vocabulary(msgspec.Struct, frozen=True):
    """The bytes of each token, by id; as many as the model has logits."""

    tokens: list[bytes]
    special_ids: list[int]
    eos_token_ids: list[int]


def build_tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    """llguidance's prefix tree over the vocabulary. Special tokens match no text; eos tokens end every grammar."""
    wrapped = TokenizerWrapper(
        SimpleNamespace(
            tokens=vocabulary.tokens,
            special_token_ids=vocabulary.special_ids,
            eos_token_id=vocabulary.eos_token_ids[0],
            bos_token_id=None,
        )
    )
    return LLTokenizer(wrapped, eos_token=vocabulary.eos_token_ids)


def kind_of(structured: StructuredOutput) -> str:
    """The name of the one field that is set."""
    return next(name for name in structured.__struct_fields__ if getattr(structured, name) not in (None, False, ()))


def check_size(structured: StructuredOutput) -> None:
    """Raises InvalidParameter when the source has more than MAX_BYTES."""
    kind = kind_of(structured)
    value = getattr(structured, kind)
    texts = value if kind == "choice" else (value,) if isinstance(value, str) else ()
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    if size > MAX_BYTES:
        raise refusal(structured, f"must have at most {MAX_BYTES} bytes, got {size}")


def refusal(structured: StructuredOutput, reason: str) -> InvalidParameter:
    """The error for `reason`, cut to one line, naming the field."""
    first, *others = (" ".join(line.split()) for line in reason.splitlines() or [""])
    # A parser's own message stands below its drawing of the place.
    said = [first[:MAX_REASON], *(line[:MAX_REASON] for line in others if line.startswith("error:"))]
    return InvalidParameter(f"structured_outputs.{kind_of(structured)}", " ".join(said))


def grammar_text(structured: StructuredOutput) -> str:
    """llguidance's own form of the grammar; InvalidParameter when the source is malformed on its face."""
    try:
        answer = _answer(kind_of(structured), structured)
    except RecursionError:
        raise refusal(structured, "must be nested less deep") from None
    except InvalidParameter:
        raise
    except UnsupportedSchema as error:
        raise InvalidParameter("structured_outputs.json", f"cannot be kept to: {error}") from None
    except Exception as error:  # the GBNF converter raises bare Exception, IndexError and ValueError
        raise refusal(structured, f"is malformed: {error}") from None
    return json.dumps({"grammars": [{"lark_grammar": _ROOT}, {"name": "answer", **answer}]})


def compile_matcher(tokenizer: LLTokenizer, structured: StructuredOutput, text: str) -> LLMatcher:
    """A matcher at the start of `text`; InvalidParameter with llguidance's reason when it does not compile, or allows
    no token at all."""
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        reason = matcher.get_error()
        if reason.startswith("panic"):
            raise refusal(structured, "is too complex")
        if reason.startswith("NoExtension"):
            raise refusal(structured, "allows no answer")
        raise refusal(structured, f"does not compile: {_with_its_place(tokenizer, text, reason)}")
    return matcher


def _with_its_place(tokenizer: LLTokenizer, text: str, reason: str) -> str:
    """The reason, with the place in the JSON schema that it is about."""

    def reason_of(schema: dict[str, Any]) -> str | None:
        alone = LLMatcher(tokenizer, json.dumps({"grammars": [{"json_schema": schema}]}), log_level=0, limits=LIMITS)
        return alone.get_error() if alone.is_error() else None

    answer = json.loads(text)["grammars"][1]
    about = re.match(r"at (\d+)\(\d+\): failed to compile JSON schema: ", reason)
    said = "" if about is None else about[0]
    schema = answer.get("json_schema") if about is None else _schema_at(answer["lark_grammar"], int(about[1]))
    if not isinstance(schema, dict):
        return reason
    place, found = fault(schema, _DRAWING.sub("", reason.removeprefix(said)), reason_of)
    return f"{said}{place}: {found}" if place else reason


def _schema_at(lark: str, line: int) -> Any:
    """The JSON schema that begins in a line of a grammar, counted from 1; None where none does."""
    _, found, rest = "".join(lark.splitlines(keepends=True)[line - 1 :]).partition("%json")
    try:
        return json.JSONDecoder().raw_decode(rest.lstrip())[0] if found else None
    except ValueError:
        return None


def _answer(kind: str, structured: StructuredOutput) -> dict[str, Any]:
    if kind == "choice":
        # One lexeme: as alternatives of a rule each would be an item of the parser's, of which a step may have few.
        return {"lark_grammar": "start: CHOICE\nCHOICE: " + " | ".join(map(json.dumps, structured.choice))}
    if structured.regex is not None:
        if cut := fault_of_end(structured.regex):
            raise refusal(structured, cut)
        return {"lark_grammar": f"start: /{regex_to_lark(structured.regex)}/"}
    if structured.grammar is not None:
        return {"lark_grammar": any_to_lark(structured.grammar)}
    schema = {"type": "object"} if structured.json is None else json.loads(structured.json)
    if not isinstance(schema, dict):
        raise refusal(structured, f"must be an object, got {type(schema).__name__}")
    options = schema.get("x-guidance", {})
    if not isinstance(options, dict):
        raise refusal(structured, f"x-guidance must be an object, got {type(options).__name__}")
    return {"json_schema": {**adapt(schema).schema, "x-guidance": {"whitespace_pattern": _WHITESPACE, **options}}}
