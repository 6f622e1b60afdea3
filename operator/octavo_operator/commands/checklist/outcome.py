"""What an item of the checklist came to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.load import Load
from octavo_operator.commands.trial import Trial

Verdict = Literal["pass", "warn", "fail", "unknown"]


@dataclass(frozen=True)
class Outcome:
    """`evidence`: what was seen, with its numbers; `fix`: what to do, empty where nothing is to be done. `unknown`: it
    could not be looked at, and the evidence says why."""

    verdict: Verdict
    evidence: str
    fix: str = ""


Check = Callable[[Evidence, Load | None, Trial], Outcome]


def passed(evidence: str) -> Outcome:
    return Outcome("pass", evidence)


def warned(evidence: str, fix: str) -> Outcome:
    return Outcome("warn", evidence, fix)


def failed(evidence: str, fix: str) -> Outcome:
    return Outcome("fail", evidence, fix)


def unknown(evidence: str, fix: str = "") -> Outcome:
    return Outcome("unknown", evidence, fix)


def not_parsed(evidence: Evidence) -> Outcome:
    """Of what the spec says, where it is invalid."""
    return failed(f"the spec is invalid: {evidence.condition('Valid').get('message', '')}", "correct the spec")


def no_answer(trial: Trial, what: str) -> Outcome:
    """Of a request that brought no answer: it may not be sent, it asks for a key, or the service failed."""
    if what in trial.troubles:
        trouble = trial.troubles[what]
        if trouble.startswith("missing right"):
            return unknown(trouble, "ask who grants rights for it: the cluster's role edit has it")
        return failed(trouble, "`octavo why` says what keeps it from answering")
    reply = trial.replies[what]
    if reply.status == 401:
        return unknown("the service asks for a key", "--api-key, or OPENAI_API_KEY")
    said = " ".join(reply.text.split())[:200]
    return failed(f"HTTP {reply.status}: {said}", "`octavo why` says what keeps it from answering")
