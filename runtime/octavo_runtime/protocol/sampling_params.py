"""How the tokens of one request are chosen, and when it ends."""

import reprlib
from collections.abc import Iterable
from typing import Any

import msgspec

from octavo_runtime.protocol.reason import Mention, Reason, as_text

SEED_LIMIT = 2**63 - 1
MAX_SEQUENCES = 64
MAX_LOGPROBS = 64

# A temperature below this is greedy: dividing by it would tell apart what rounding alone separates.
GREEDY_BELOW = 1e-5

_INT32_MAX = 2**31 - 1
_MAX_STOPS = 16
_MAX_STOP_IDS = 1024
_MAX_STOP_IDS_OF_BEAMS = 16  # each costs every beam a candidate a step
_MAX_BIASES = 1024
_MAX_ALLOWED = 2**17
_MAX_BAD_WORDS = 256
_MAX_WORD = 1024  # characters
_MAX_BAD_WORD_TOKENS = 8192  # 1024 characters of four bytes, a token each, fit twice
_MAX_CHOICES = 1024
_MAX_GRAMMAR = 2**20  # characters


class InvalidParameter(ValueError):
    """A request parameter out of bounds. `field`: its path; `reason`: the bound and the value. The text is both."""

    def __init__(self, field: str, reason: Reason) -> None:
        super().__init__(f"{field} {as_text(reason)}")
        self.field = field
        self.reason = reason


class StructuredOutput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The form that an answer must have: exactly one of the fields is set. `json` is a JSON schema as JSON text;
    `grammar` is Lark or EBNF (GBNF) text."""

    json: str | None = None
    json_object: bool = False
    regex: str | None = None
    choice: tuple[str, ...] = ()
    grammar: str | None = None

    def __post_init__(self) -> None:
        field = "structured_outputs"
        _require_bool(f"{field}.json_object", self.json_object)
        msgspec.structs.force_setattr(self, "choice", _tuple(f"{field}.choice", self.choice))
        _require_strings(f"{field}.choice", self.choice, _MAX_CHOICES, _MAX_WORD)
        for name in ("json", "regex", "grammar"):
            text = getattr(self, name)
            if text is not None:
                _require_strings(f"{field}.{name}", (text,), 1, _MAX_GRAMMAR)
        present = [name for name in self.__struct_fields__ if getattr(self, name) not in (None, False, ())]
        if len(present) != 1:
            fields = ", ".join(self.__struct_fields__)
            raise InvalidParameter(field, f"must have exactly one of {fields}; got {', '.join(present) or 'none'}")


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling parameters with vLLM's names and meanings; raises InvalidParameter when one is out of bounds.

    temperature 0 takes the likeliest token. top_k 0 (or -1) and top_p 1 keep every token. max_tokens None goes on until
    an end-of-sequence token or the model's limit. `stop` may be given as one string, and None stands for an empty list
    or logit_bias. Text of `stop` strings, and of the token that ends the answer, is not part of it unless
    include_stop_str_in_output. `n` answers are drawn from one prompt; with `best_of` above n, that many are drawn and
    the n of highest mean log-probability kept. `bad_words` must be resolved to `bad_word_ids` with a tokenizer before
    the engine sees them (tokenizer.resolve_params). With `beam_width` the n best of that many beams are the answers;
    their score is the sum of log-probabilities / length ** length_penalty; they ignore temperature and seed."""

    n: int = 1
    best_of: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    allowed_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    bad_word_ids: tuple[tuple[int, ...], ...] = ()
    seed: int | None = None
    min_tokens: int = 0
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    skip_special_tokens: bool = True
    truncate_prompt_tokens: int | None = None
    structured_outputs: StructuredOutput | None = None
    beam_width: int | None = None
    length_penalty: float = 1.0
    early_stopping: bool = False

    @property
    def looks_back(self) -> bool:
        """Whether a token is drawn by those before it, beside the model's scores."""
        penalizes = (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0.0, 0.0)
        forms = self.bad_word_ids or self.min_tokens or self.structured_outputs is not None
        return bool(penalizes or forms or self.beam_width is not None)

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            msgspec.structs.force_setattr(self, "stop", (self.stop,))
        if self.logit_bias is None:
            msgspec.structs.force_setattr(self, "logit_bias", {})
        for name in _TUPLES:
            # Callers in Python pass lists as well; frozen structs are set this way once, before anyone sees them.
            msgspec.structs.force_setattr(self, name, _tuple(name, getattr(self, name)))
        for name, (low, high) in _INTEGERS.items():
            _require_int(name, getattr(self, name), low, high)
        for name, (low, high) in _OPTIONAL_INTEGERS.items():
            if getattr(self, name) is not None:
                _require_int(name, getattr(self, name), low, high)
        for name, (least, most) in _NUMBERS.items():
            _require_number(name, getattr(self, name), least, most)
        for name in _SWITCHES:
            _require_bool(name, getattr(self, name))
        if self.truncate_prompt_tokens == 0:
            rule = "must be at least 1, or -1 for the most that the model takes, got 0"
            raise InvalidParameter("truncate_prompt_tokens", rule)
        if self.top_p == 0:
            raise InvalidParameter("top_p", "must be above 0, got 0")
        _require_strings("stop", self.stop, _MAX_STOPS, 1024)
        _require_strings("bad_words", self.bad_words, _MAX_BAD_WORDS, _MAX_WORD)
        _require_ids("stop_token_ids", self.stop_token_ids, _MAX_STOP_IDS)
        _require_ids("allowed_token_ids", self.allowed_token_ids, _MAX_ALLOWED)
        _require_length("bad_word_ids", self.bad_word_ids, 2 * _MAX_BAD_WORDS, "entries")
        for word in self.bad_word_ids:
            _require_ids("bad_word_ids", word, _MAX_BAD_WORD_TOKENS)
            if not word:
                raise InvalidParameter("bad_word_ids", "entries must have at least 1 id, got 0")
        self._check_logit_bias()
        if self.best_of is not None and self.best_of < self.n:
            raise InvalidParameter("best_of", f"must be at least n ({self.n}), got {self.best_of}")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            bound = f" ({self.max_tokens}), got {self.min_tokens}"
            raise InvalidParameter("min_tokens", ("must be at most ", Mention("max_tokens"), bound))
        if self.structured_outputs is not None and not isinstance(self.structured_outputs, StructuredOutput):
            raise InvalidParameter("structured_outputs", f"must be an object, got {_shown(self.structured_outputs)}")
        self._check_beams()

    @property
    def num_answers(self) -> int:
        """How many answers the engine makes: more than `n` where the best of several are kept."""
        return self.best_of or self.n

    def truncate(self, prompt: list[int], max_model_len: int) -> list[int]:
        """The prompt's last truncate_prompt_tokens tokens; with -1 those that the model's length leaves beside
        max_tokens, or beside one token where it leaves none beside these."""
        last = self.truncate_prompt_tokens
        if last == -1:
            asked = self.max_tokens or 1
            last = max_model_len - (asked if asked < max_model_len else 1)
        return prompt if last is None else prompt[-last:]

    def _check_logit_bias(self) -> None:
        if not isinstance(self.logit_bias, dict):
            raise InvalidParameter("logit_bias", f"must map token ids to numbers, got {_shown(self.logit_bias)}")
        _require_ids("logit_bias", tuple(self.logit_bias), _MAX_BIASES)
        for bias in self.logit_bias.values():
            _require_number("logit_bias", bias, -100.0, 100.0)

    def _check_beams(self) -> None:
        """Beams follow the model's own log-probabilities: what would change them or draw otherwise is refused, rather
        than ignored. Temperature alone may stand, since every request has one."""
        if self.beam_width is None:
            for name, neutral in _BEAMS_ONLY.items():
                if getattr(self, name) != neutral:
                    raise InvalidParameter(name, ("needs ", _BEAM_WIDTH, f", got {_shown(getattr(self, name))}"))
            return
        if self.n > self.beam_width:
            raise InvalidParameter("n", ("must be at most ", _BEAM_WIDTH, f" ({self.beam_width}), got {self.n}"))
        if len(self.stop_token_ids) > _MAX_STOP_IDS_OF_BEAMS:
            bound = f"must have at most {_MAX_STOP_IDS_OF_BEAMS} ids with "
            raise InvalidParameter("stop_token_ids", (bound, _BEAM_WIDTH, f", got {len(self.stop_token_ids)}"))
        for name, neutrals in _NOT_WITH_BEAMS.items():
            if getattr(self, name) not in neutrals:
                # A form looks otherwise where it was asked for.
                got = "" if name == "structured_outputs" else f", got {_shown(getattr(self, name))}"
                raise InvalidParameter(name, ("cannot be combined with ", _BEAM_WIDTH, got))


def check_token_ids(params: SamplingParams, vocab_size: int) -> None:
    """Raises InvalidParameter where a token id is not below `vocab_size`, the width of the model's logits."""
    _require_below("stop_token_ids", params.stop_token_ids, vocab_size)
    _require_below("allowed_token_ids", params.allowed_token_ids, vocab_size)
    _require_below("logit_bias", params.logit_bias, vocab_size)
    for word in params.bad_word_ids:
        _require_below("bad_word_ids", word, vocab_size)


def unicode_fault(text: str) -> str:
    """The rule that text breaks with half a surrogate pair, which JSON can spell and no tokenizer takes; else empty."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"must be valid Unicode, has half a surrogate pair at character {error.start}"
    return ""


def check_unicode(field: str, text: str) -> None:
    """Raises InvalidParameter where text has a `unicode_fault`."""
    if fault := unicode_fault(text):
        raise InvalidParameter(field, fault)


def check_id_types(field: str, ids: Iterable[Any]) -> None:
    """Raises InvalidParameter where a token id is no integer, as true and false are none. Without a Python loop over
    the ids: there may be very many."""
    if not set(map(type, ids)) <= {int}:
        wrong = next(value for value in ids if type(value) is not int)
        raise InvalidParameter(field, f"token ids must be integers, got {_shown(wrong)}")


_TUPLES = ("allowed_token_ids", "bad_words", "bad_word_ids", "stop", "stop_token_ids")
_SWITCHES = ("include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "early_stopping")
_INTEGERS = {
    "n": (1, MAX_SEQUENCES),
    "top_k": (-1, _INT32_MAX),
    "min_tokens": (0, _INT32_MAX),
}
_OPTIONAL_INTEGERS = {
    "best_of": (1, MAX_SEQUENCES),
    "seed": (-SEED_LIMIT - 1, SEED_LIMIT),
    "max_tokens": (1, _INT32_MAX),
    "logprobs": (0, MAX_LOGPROBS),
    "prompt_logprobs": (0, MAX_LOGPROBS),
    "truncate_prompt_tokens": (-1, _INT32_MAX),
    "beam_width": (1, MAX_SEQUENCES),
}
_NUMBERS = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.01, 10.0),
    "length_penalty": (-10.0, 10.0),
}
_BEAM_WIDTH = Mention("beam_width")
_BEAMS_ONLY: dict[str, Any] = {"length_penalty": 1.0, "early_stopping": False}
_NOT_WITH_BEAMS: dict[str, tuple[Any, ...]] = {
    "best_of": (None,),
    "top_p": (1.0,),
    "top_k": (0, -1),
    "min_p": (0.0,),
    "presence_penalty": (0.0,),
    "frequency_penalty": (0.0,),
    "repetition_penalty": (1.0,),
    "logit_bias": ({},),
    "allowed_token_ids": ((),),
    "bad_words": ((),),
    "bad_word_ids": ((),),
    "min_tokens": (0,),
    "logprobs": (None,),
    "prompt_logprobs": (None,),
    "structured_outputs": (None,),
}


def _require_int(field: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(field, f"must be an integer, got {_shown(value)}")
    if not low <= value <= high:
        raise InvalidParameter(field, f"must be from {low} to {high}, got {_shown(value)}")


def _require_number(field: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidParameter(field, f"must be a number, got {_shown(value)}")
    if not low <= value <= high:  # NaN is in no range
        raise InvalidParameter(field, f"must be from {low:g} to {high:g}, got {_shown(value)}")


def _require_bool(field: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidParameter(field, f"must be true or false, got {_shown(value)}")


def _require_strings(field: str, texts: tuple[Any, ...], most: int, longest: int) -> None:
    _require_length(field, texts, most, "strings")
    for text in texts:
        if not isinstance(text, str):
            raise InvalidParameter(field, f"must hold strings, got {_shown(text)}")
        check_unicode(field, text)
        if not 1 <= len(text) <= longest:
            raise InvalidParameter(field, f"strings must have 1 to {longest} characters, got {len(text)}")


def _require_ids(field: str, ids: Any, most: int) -> None:
    if not isinstance(ids, tuple):
        raise InvalidParameter(field, f"must hold lists of token ids, got {_shown(ids)}")
    _require_length(field, ids, most, "ids")
    if not ids:
        return
    check_id_types(field, ids)
    for value in (min(ids), max(ids)):
        _require_int(field, value, 0, _INT32_MAX)


def _require_length(field: str, values: tuple[Any, ...], most: int, noun: str) -> None:
    if len(values) > most:
        raise InvalidParameter(field, f"must have at most {most} {noun}, got {len(values)}")


def _require_below(field: str, ids: Iterable[int], vocab_size: int) -> None:
    largest = max(ids, default=0)
    if largest >= vocab_size:
        raise InvalidParameter(field, f"token ids must be below the vocabulary's size ({vocab_size}), got {largest}")


def _tuple(field: str, values: Any) -> tuple[Any, ...]:
    if values is None:
        return ()
    if not isinstance(values, list | tuple):
        raise InvalidParameter(field, f"must be a list, got {_shown(values)}")
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def _shown(value: Any) -> str:
    """A value for an error's one line: short, whatever the value is."""
    try:
        return " ".join(reprlib.repr(value).split())
    except ValueError:  # Python refuses to print the longest integers
        return "a value too long to print"
