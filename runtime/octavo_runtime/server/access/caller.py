"""Who sent the request that is being answered."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from octavo_runtime.server.access.limits import NO_LIMITS, Account

ANONYMOUS = "anonymous"


def _uncounted(_tokens: float) -> object:
    return None


@dataclass(frozen=True)
class Caller:
    """A key by its name, or `anonymous` where no keys are asked for. Its tokens are charged to `account`; count_prompt
    and count_generated hear of them too."""

    name: str
    account: Account
    count_prompt: Callable[[float], object] = _uncounted
    count_generated: Callable[[float], object] = _uncounted

    def charge_prompt(self, tokens: int) -> None:
        """A prompt of so many tokens was accepted."""
        self.count_prompt(tokens)
        self.account.charge(tokens, time.monotonic())

    def charge_generated(self, tokens: int) -> None:
        """So many tokens were generated."""
        self.count_generated(tokens)
        self.account.charge(tokens, time.monotonic())


NOBODY = Caller(ANONYMOUS, Account(NO_LIMITS))

# Set anew for each request and never put back: what logs a request's end runs outside of what set it.
caller: ContextVar[Caller] = ContextVar("caller", default=NOBODY)
