"""Takes what opens something out of what is handed on: objects of the cluster, and text."""

import re
from collections.abc import Iterable
from typing import Any

from octavo_runtime.server.observe.redaction import redact_keys

REDACTED = "[redacted]"

_SECRET_NAME = re.compile(r"(key|token|secret|passw(or)?d|credentials?|auth)s?$", re.IGNORECASE)
_LOOKS_LIKE_A_KEY = re.compile(r"(?=[^/]*\d)(?=[^/]*[A-Za-z])[A-Za-z0-9_+=-]{24,}")
_IN_URL = re.compile(r"(://)[^/\s:@]{1,256}:[^/\s@]{1,256}@")
_GIVES_A_KEY = re.compile(r"--api-key(=|$)")
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SHORT = 8  # a shorter value is no key, and would be found everywhere


def redact(document: Any) -> tuple[Any, set[str]]:
    """A copy of an object without secrets and without its writers, and the secrets: they may stand elsewhere too."""
    secrets: set[str] = set()
    return _redacted(document, secrets), secrets


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Text without these secrets, nor what has the form of one."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return _IN_URL.sub(rf"\1{REDACTED}@", redact_keys(text))


def _redacted(value: Any, secrets: set[str]) -> Any:
    if isinstance(value, list):
        return _arguments([_redacted(each, secrets) for each in value], secrets)
    if not isinstance(value, dict):
        return scrub(value, ()) if isinstance(value, str) else value
    kept = {key: each for key, each in value.items() if key not in ("managedFields", _APPLIED)}
    if _is_secret_variable(kept):
        return kept | {"value": _taken(kept["value"], secrets)}
    return {
        key: _taken(each, secrets)
        if isinstance(each, str) and key not in _REFERENCES and _SECRET_NAME.search(key)
        else _redacted(each, secrets)
        for key, each in kept.items()
    }


def _is_secret_variable(entry: dict[str, Any]) -> bool:
    """Whether it is a variable of the environment that opens something, by its name or its look."""
    name, value = entry.get("name"), entry.get("value")
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return bool(_SECRET_NAME.search(name) or _LOOKS_LIKE_A_KEY.fullmatch(value))


# Keys of Kubernetes' objects that end like a secret's name and hold none.
_REFERENCES = {"key", "topologyKey"}


def _arguments(words: list[Any], secrets: set[str]) -> list[Any]:
    """A command line without the keys in it."""
    found = []
    for position, word in enumerate(words):
        if isinstance(word, str) and _GIVES_A_KEY.match(word) and "=" in word:
            flag, _, key = word.partition("=")
            found.append(f"{flag}={_taken(key, secrets)}")
        elif isinstance(word, str) and position and words[position - 1] == "--api-key":
            found.append(_taken(word, secrets))
        else:
            found.append(word)
    return found


def _taken(secret: str, secrets: set[str]) -> str:
    for part in (secret, secret.partition("=")[2]):
        if len(part) >= _SHORT and not part.startswith("$("):
            secrets.add(part)
    return REDACTED
