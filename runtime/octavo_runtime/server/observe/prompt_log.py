"""The prompts in the log, for operators who ask for them: redacted, and cut short."""

import logging
from collections.abc import Sequence

from octavo_runtime.server.observe.redaction import redact
from octavo_runtime.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)
_MAX_READ = 8192
_MAX_SHOWN = 2000
_LONGEST_SECRET = 512


def log_prompt(tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
    """One line with the beginning of a prompt (token ids)."""
    text = tokenizer.decode(list(prompt[:_MAX_READ]))
    _log.info("prompt", extra={"prompt": shown(text, whole=len(prompt) <= _MAX_READ)})


def shown(text: str, *, whole: bool = True) -> str:
    """The redacted beginning of a prompt. `whole`: whether `text` is all of it."""
    clean = redact(text[:_MAX_READ])
    if not whole or len(text) > _MAX_READ:
        clean = clean[:-_LONGEST_SECRET]  # where the text was cut, half a secret would not be known for one
    return clean if whole and len(clean) <= _MAX_SHOWN and len(text) <= _MAX_READ else clean[:_MAX_SHOWN] + "..."
