"""What no cluster can see: that people did something, said in an annotation of the LLMService."""

from octavo_operator.api import GROUP
from octavo_operator.commands.checklist.outcome import Check, Outcome, passed, warned
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.load import Load
from octavo_operator.commands.trial import Trial


def stated(name: str, what: str) -> Check:
    """An item that an annotation of the project's group answers."""

    def check(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
        annotation = f"{GROUP}/{name}"
        if said := evidence.annotations.get(annotation, "").strip():
            return passed(f"{annotation}: {said}")
        command = f"kubectl annotate llmservice {evidence.name} {annotation}=..."
        return warned(f"no annotation {annotation}", f"{what}: {command}")

    return check
