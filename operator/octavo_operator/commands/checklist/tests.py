"""Does it do what clients want of it, now?"""

import json
from collections.abc import Callable
from typing import Any

from octavo_operator.commands.checklist.outcome import Check, Outcome, failed, no_answer, passed, warned
from octavo_operator.commands.checklist.statement import stated
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.load import Load
from octavo_operator.commands.trial import CHAT, COMPLETION, EMBED, GENERATE, READING, STREAM, UNKNOWN_MODEL, Trial

_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KEEPERS = ("argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/", "meta.helm.sh/")


def _completion(_evidence: Evidence, _load: Load | None, trial: Trial) -> Outcome:
    if trial.task == GENERATE:
        return _answered(trial, COMPLETION, lambda body: repr(_said(str(body["choices"][0]["text"]))))
    return _answered(trial, READING, _embedding if trial.task == EMBED else _label)


def _embedding(body: Any) -> str:
    return f"no completion but an embedding of {len(body['data'][0]['embedding'])} numbers"


def _label(body: Any) -> str:
    first = body["data"][0]
    return f"no completion but label {first['label']!r} of {len(first['probs'])}"


def _not_generated(trial: Trial) -> Outcome:
    return passed(f"not asked for: the model is made to {trial.task}, and generates nothing")


def _chat(_evidence: Evidence, _load: Load | None, trial: Trial) -> Outcome:
    if trial.task != GENERATE:
        return _not_generated(trial)
    reply = trial.replies.get(CHAT)
    if reply is not None and reply.status == 400 and "template" in reply.text:
        return warned(_said(reply.text), "the model is no chat model; engine.chatTemplate gives it a template")
    return _answered(trial, CHAT, lambda body: repr(_said(str(body["choices"][0]["message"]["content"]))))


def _answered(trial: Trial, what: str, told: Callable[[Any], str]) -> Outcome:
    """`told`: what the body of the answer says, in words."""
    reply = trial.replies.get(what)
    if reply is None or reply.status != 200:
        return no_answer(trial, what)
    try:
        said = told(json.loads(reply.text))
    except (ValueError, KeyError, IndexError, TypeError):
        fix = "see that the Service leads to Octavo's pods"
        return failed(f"HTTP 200 with another body: {_said(reply.text)}", fix)
    return passed(f"{said} in {reply.seconds:.1f} s")


def _said(text: str) -> str:
    return " ".join(text.split())[:120]


def _stream(_evidence: Evidence, _load: Load | None, trial: Trial) -> Outcome:
    if trial.task != GENERATE:
        return _not_generated(trial)
    reply = trial.replies.get(STREAM)
    if reply is None or reply.status != 200:
        return no_answer(trial, STREAM)
    if not trial.streamed():
        return failed(f"the stream broke off after {len(reply.text)} characters", "`octavo why`, and the engine's log")
    return passed(f"{reply.text.count('data: ') - 1} events in {reply.seconds:.1f} s, to their end")


def _refusal(_evidence: Evidence, _load: Load | None, trial: Trial) -> Outcome:
    reply = trial.replies.get(UNKNOWN_MODEL)
    if reply is None or reply.status == 401:
        return no_answer(trial, UNKNOWN_MODEL)
    told = f"a model that is not served got HTTP {reply.status}"
    return passed(told) if reply.status == 404 else failed(told, "the server must answer 404; `octavo bundle`")


def _way_back(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    """The former spec, applied again, is the way back: somebody must have kept it."""
    marks = {**evidence.annotations, **(evidence.body["metadata"].get("labels") or {})}
    keepers = sorted({prefix.rstrip("/") for prefix in _KEEPERS for key in marks if key.startswith(prefix)})
    if keepers:
        return passed(f"the spec is kept by {', '.join(keepers)}: apply the former one")
    if _APPLIED in marks:
        return passed("the spec was applied from a file by kubectl: apply the former one, if it is kept")
    fix = "keep the spec in a file under version control, and `kubectl apply` it"
    return warned("nothing says where the spec is kept", fix)


ITEMS: dict[str, Check] = {
    "completion": _completion,
    "chat": _chat,
    "streaming": _stream,
    "refusal": _refusal,
    "load test": stated(
        "load-test", "run `octavo bench serve` against it with the load you expect, and write down when"
    ),
    "way back": _way_back,
}
