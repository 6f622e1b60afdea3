"""How a sequence that must give way is to resume: by computing its tokens anew, or from host memory. Free of torch."""

from dataclasses import dataclass
from typing import Literal

from octavo_runtime.engine.kv_cache.block_tables import num_filled
from octavo_runtime.engine.request import Sequence
from octavo_runtime.engine.scheduler import PreemptionMode

# Of the newest measurement in the running mean of the prefill rate.
_WEIGHT = 0.1
# Steps with fewer tokens say more about their fixed costs than about the rate.
_FEWEST_TOKENS = 64


@dataclass
class PreemptionCost:
    """The cost model: a swap moves a sequence's blocks out and in again, at the speed of the way to host memory; a
    recomputation costs its tokens, at the prefill rate that the engine has measured so far.

    `setting`: "auto" takes the cheaper way (recomputation until the first measurement), the others always theirs."""

    setting: Literal["auto", "recompute", "swap"]
    block_size: int
    block_bytes: int
    swap_bytes_per_second: float
    prefill_tokens_per_second: float | None = None

    def observe(self, tokens: int, seconds: float) -> None:
        """A step of so many tokens took so long."""
        if tokens >= _FEWEST_TOKENS and seconds > 0:
            rate = tokens / seconds
            before = self.prefill_tokens_per_second
            self.prefill_tokens_per_second = rate if before is None else before + _WEIGHT * (rate - before)

    def mode(self, sequence: Sequence) -> PreemptionMode:
        """The cheaper way for this sequence."""
        if self.setting != "auto":
            return self.setting
        if self.prefill_tokens_per_second is None:
            return "recompute"
        swap_seconds = 2 * num_filled(sequence, self.block_size) * self.block_bytes / self.swap_bytes_per_second
        return "swap" if swap_seconds < sequence.computed / self.prefill_tokens_per_second else "recompute"
