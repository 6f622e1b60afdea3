"""Does whoever is called at night find what they need?"""

import json

from octavo_operator.commands.checklist.outcome import Check, Outcome, failed, no_answer, passed
from octavo_operator.commands.checklist.statement import stated
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.load import Load
from octavo_operator.commands.trial import REFERENCE, Trial


def _reference(_evidence: Evidence, _load: Load | None, trial: Trial) -> Outcome:
    reply = trial.replies.get(REFERENCE)
    if reply is None or reply.status != 200:
        return no_answer(trial, REFERENCE)
    try:
        count = len(json.loads(reply.text)["paths"])
    except (ValueError, KeyError, TypeError):
        return failed("/openapi.json is no description of an API", "see that the Service leads to Octavo's pods")
    return passed(f"/docs shows {count} paths")


ITEMS: dict[str, Check] = {
    "API reference": _reference,
    "owner": stated("owner", "say whose it is"),
    "runbook": stated("runbook", "say where the runbook is, with what to do in an incident"),
    "on-call": stated("on-call", "say who is called"),
}
