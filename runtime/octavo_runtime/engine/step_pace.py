"""How long steps take, as measured: how many prompt tokens the next one may compute, and when it counts as hung. Free
of torch."""

from dataclasses import dataclass

# What a step with prompt tokens aims at: others' streams pause for so long while a slow device reads a prompt.
_TARGET_SECONDS = 2.0
# Fewer are not worth a pass over the weights.
_FEWEST_PROMPT_TOKENS = 32

# No step counts as hung before; what is expected to take longer gets this factor, for other programs take cores away.
_LEAST_PATIENCE_SECONDS = 30.0
_PATIENCE_FACTOR = 10.0
# The first step compiles kernels.
_FIRST_STEP_SECONDS = 600.0
# What is left of the longest step's time with each shorter one.
_FORGETTING = 0.9


@dataclass
class StepPace:
    """What the engine has measured of its steps.

    `most`: the most prompt tokens of a step, however fast it is. `prompt_tokens`: how many the next step may compute.
    Many tokens never take longer than one of them times their number, so any step shows how many fit at least."""

    most: int
    prompt_tokens: int = 0
    _longest: float | None = None  # seconds, of late; None: no step was measured yet
    _compiled: bool = False

    def __post_init__(self) -> None:
        self.prompt_tokens = self.most

    def observe(self, tokens: int, prompt_tokens: int, seconds: float) -> None:
        """A step of so many tokens, so many of them of prompts, took so long."""
        if not tokens:
            return
        if not self._compiled:
            self._compiled = True
            return
        fit = int(tokens * _TARGET_SECONDS / max(seconds, 1e-6))
        if self._longest is not None and not (prompt_tokens and seconds > _TARGET_SECONDS):
            fit = max(fit, self.prompt_tokens)
        self.prompt_tokens = min(max(fit, _FEWEST_PROMPT_TOKENS), self.most)
        self._longest = max(seconds, _FORGETTING * (self._longest or 0.0))

    @property
    def patience(self) -> float:
        """Seconds after which the next step counts as hung."""
        if self._longest is None:
            return _FIRST_STEP_SECONDS
        return max(_LEAST_PATIENCE_SECONDS, _PATIENCE_FACTOR * self._longest)
