"""What a rule found: what is wrong, the numbers that say so, and the change that mends it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.load import Load

PAGE = "docs/day-two.md"


@dataclass(frozen=True)
class Finding:
    """
    Attributes:
        rule: a word that stays the same, for programs.
        severity: critical, requests fail or wait for want of it; warning, the service is worse than it could be.
        summary: what is wrong, in one line.
        evidence: what says so, each with its numbers.
        advice: what to do, in words.
        change: what to merge into the spec of the LLMService; empty where the spec is not what to change.
        section: of the page that tells more.
    """

    rule: str
    severity: Literal["critical", "warning"]
    summary: str
    evidence: list[str]
    advice: str
    change: Mapping[str, Any] = field(default_factory=dict)
    section: str = ""

    @property
    def patch(self) -> str:
        """The change as YAML; empty where there is none."""
        return yaml.safe_dump({"spec": dict(self.change)}, sort_keys=False) if self.change else ""

    @property
    def more(self) -> str:
        return f"{PAGE}#{self.section}" if self.section else PAGE


Rule = Callable[[Evidence, Load | None], Iterable[Finding]]
