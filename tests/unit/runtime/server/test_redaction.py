"""Secrets and personal data never reach the log, wherever they stand in a prompt."""

import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from octavo_runtime.server.observe.prompt_log import shown
from octavo_runtime.server.observe.redaction import is_card_number, redact

# Words around a secret; a letter or digit directly before one would be a part of it.
around = st.text(alphabet=st.sampled_from("ab Z.,\n\"'(é字-"), max_size=20)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
PREFIXES = ["sk-", "sk-ant-", "sk_live_", "ghp_", "github_pat_", "glpat-", "hf_", "xoxb-"]


def luhn_digit(digits: str) -> str:
    """The check digit, worked out from its definition: from the right, every second digit is doubled."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


@st.composite
def cards(draw) -> str:
    digits = draw(st.text(alphabet="0123456789", min_size=12, max_size=18))
    return digits + luhn_digit(digits)


@given(
    around, cards(), st.sampled_from(["", " ", "-", ".", "  ", "\u00a0"]), around, st.sampled_from(["", "12 ", "7-"])
)
@example("", "4111111111111111", " ", "", "12 ")
def test_a_card_number_is_taken_out_however_it_is_grouped(before, card, separator, after, number):
    grouped = separator.join(card[start : start + 4] for start in range(0, len(card), 4))
    clean = redact(f"{before} {number}{grouped} {after}")
    assert card not in "".join(character for character in clean if character.isdigit())


@pytest.mark.parametrize("card", ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "4222222222222"])
def test_well_known_test_cards(card):
    assert redact(f"pay with {card}, please") == "pay with [card], please"


@given(st.text(alphabet="0123456789", min_size=13, max_size=19))
def test_luhn(digits):
    assert is_card_number(digits) == (luhn_digit(digits[:-1]) == digits[-1])


def test_what_is_too_short_or_too_long_is_no_card():
    assert not is_card_number("0" * 12)
    assert not is_card_number("0" * 20)


@given(around, st.sampled_from(PREFIXES), st.text(alphabet=LETTERS, min_size=20, max_size=80), around)
def test_a_key_is_taken_out(before, prefix, secret, after):
    clean = redact(f"{before} {prefix}{secret}|{after}")
    assert secret not in clean
    assert "[key]" in clean


@given(around, st.sampled_from(["Bearer", "bearer", "BASIC"]), st.text(alphabet=LETTERS, min_size=8, max_size=80))
def test_a_token_is_taken_out(before, scheme, secret):
    clean = redact(f"{before} Authorization: {scheme} {secret}")
    assert clean.endswith(f"{scheme} [token]") or "[key]" in clean
    assert secret not in clean.removeprefix(before)


@given(
    around,
    st.text(alphabet="abcXYZ019._+-", min_size=1, max_size=64),
    st.lists(st.text(alphabet="abcXYZ019-", min_size=1, max_size=20), min_size=2, max_size=4),
)
def test_an_email_address_is_taken_out(before, name, domain):
    clean = redact(f"{before} {name}@{'.'.join(domain)} ")
    assert "@" not in clean


@given(
    st.sampled_from(["+", "", "("]),
    st.text(alphabet="0123456789", min_size=9, max_size=15),
    st.sampled_from(["", " ", "-", ".", ") "]),
)
def test_a_phone_number_is_taken_out(plus, digits, separator):
    assume(not is_card_number(digits))
    clean = redact(f"call {plus}{digits[:3]}{separator}{digits[3:6]}{separator.strip(')')}{digits[6:]} now")
    assert clean in ("call [phone] now", "call ([phone] now")


@pytest.mark.parametrize(
    "text",
    [
        "The year 2026, 12 monkeys and 3.14159.",
        "Ask skilled people; risk-averse ones wait.",
        "def f(a, b): return a @ b",
        "bearer of bad news",
        "a 123 456",
        "",
    ],
)
def test_other_text_is_left_alone(text):
    assert redact(text) == text


def test_private_keys_and_web_tokens():
    pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"
    assert redact(f"a {pem} b") == "a [key] b"
    assert redact("-----BEGIN PRIVATE KEY-----\nMIIE") == "[key]"
    assert redact("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSM") == "[key]"


@given(st.text())
def test_any_text_is_taken(text):
    assert isinstance(redact(text), str)


@pytest.mark.parametrize("unit", ["a", "a.", "1", "1 ", "1-1", "a@", "sk-", "+1(", "eyJ", "bearer ", "-----BEGIN "])
def test_the_time_is_bounded_for_hostile_text(unit):
    began = time.process_time()
    shown(unit * (1_000_000 // len(unit)))
    assert time.process_time() - began < 2


@given(st.integers(min_value=0, max_value=9000), st.booleans())
def test_a_secret_is_not_shown_in_half_where_the_prompt_is_cut(place, whole):
    secret = "sk-" + "Q" * 100
    text = ("x " * 4500)[:place] + " " + secret + " " + "y " * 100
    assert "QQQ" not in shown(text[:8192], whole=whole or len(text) <= 8192)


def test_a_long_prompt_is_cut_short():
    assert shown("word " * 100) == "word " * 100
    assert shown("word " * 1000) == ("word " * 400) + "..."
    assert len(shown("4111 1111 1111 1111, " * 5000)) <= 2003
