"""The checklist of `octavo check`, a file a section, in the order in which its items are told."""

from dataclasses import dataclass

from octavo_operator.commands.checklist import availability, documents, monitoring, performance, security, tests
from octavo_operator.commands.checklist.outcome import Outcome, Verdict
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.load import load
from octavo_operator.commands.trial import Trial

SECTIONS = {
    "performance": performance.ITEMS,
    "monitoring": monitoring.ITEMS,
    "availability": availability.ITEMS,
    "security": security.ITEMS,
    "tests": tests.ITEMS,
    "documents": documents.ITEMS,
}


@dataclass(frozen=True)
class Item:
    """One line of the checklist. `section` and `name` stay the same, for programs."""

    section: str
    name: str
    outcome: Outcome

    @property
    def verdict(self) -> Verdict:
        return self.outcome.verdict


def items(evidence: Evidence, trial: Trial) -> list[Item]:
    """The whole checklist."""
    now = load(evidence.samples)
    return [
        Item(section, name, check(evidence, now, trial))
        for section, checks in SECTIONS.items()
        for name, check in checks.items()
    ]
