"""Takes secrets and personal data out of text, as far as they can be told by their form: keys and tokens, e-mail
addresses, card and phone numbers. It rather takes a harmless number too many than leaves a card's.

Every pattern's repetitions are bounded, so that the time is linear in the text's length."""

import re

_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    r"|(?<![A-Za-z0-9])(?:"
    r"(?:sk|pk|rk)[-_][A-Za-z0-9_-]{12,}"  # OpenAI, Anthropic, Stripe
    r"|(?:gh[opsur]|github_pat|glpat|hf|xox[a-z])[-_][A-Za-z0-9_-]{10,}"  # GitHub, GitLab, Hugging Face, Slack
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,}"  # AWS, Google
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.?[A-Za-z0-9_-]*"  # JSON web tokens
    r")",
    re.DOTALL,
)
_BEARER = re.compile(r"\b(bearer|basic)(\s{1,8})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_SEPARATORS = re.compile(r"([ .\u00a0-]{1,2})")
_DIGIT_GROUPS = re.compile(r"(?<!\d)\d{1,19}(?:[ .\u00a0-]{1,2}\d{1,19})*(?!\d)")
_PHONE = re.compile(r"(?<![\w])\+?\(?\d(?:[ ()./-]{0,2}\d){8,14}(?!\d)")
_CARD_LENGTHS = range(13, 20)


def redact(text: str) -> str:
    """`text` with [key], [token], [e-mail], [card] and [phone] in the place of such data."""
    text = redact_keys(text)
    text = _EMAIL.sub("[e-mail]", text)
    text = _DIGIT_GROUPS.sub(lambda match: _without_cards(match[0]), text)
    return _PHONE.sub("[phone]", text)


def redact_keys(text: str) -> str:
    """`text` with [key] and [token] in the place of what opens something."""
    return _BEARER.sub(r"\1\2[token]", _KEY.sub("[key]", text))


def is_card_number(digits: str) -> bool:
    """Whether digits are as many as a payment card's, with the check digit that Luhn's formula asks for."""
    if len(digits) not in _CARD_LENGTHS:
        return False
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return (sum(int(digit) for digit in digits[-1::-2]) + sum(value // 10 + value % 10 for value in doubled)) % 10 == 0


def _without_cards(run: str) -> str:
    """Replaces the card numbers in a run of digit groups; other numbers may stand beside one."""
    parts = _SEPARATORS.split(run)  # groups, and between them their separators
    groups, separators = parts[::2], [*parts[1::2], ""]
    kept, start = [], 0
    while start < len(groups):
        end = _card_end(groups, start)
        kept += ["[card]" if end else groups[start], separators[(end or start + 1) - 1]]
        start = end or start + 1
    return "".join(kept)


def _card_end(groups: list[str], start: int) -> int | None:
    """Behind which group a card number ends that begins with group `start`."""
    digits = ""
    for end in range(start, len(groups)):
        digits += groups[end]
        if len(digits) > _CARD_LENGTHS[-1]:
            return None
        if is_card_number(digits):
            return end + 1
    return None
