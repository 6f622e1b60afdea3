"""Why pods do not come up, by the words that a pod leaves behind, and what to do about it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from octavo_operator.api.accelerator import GPU
from octavo_operator.commands import levers
from octavo_operator.commands.evidence import Evidence

Change = Callable[[Evidence], levers.Change]


def _nothing(_evidence: Evidence) -> levers.Change:
    return {}


def _token(evidence: Evidence) -> levers.Change:
    service = evidence.service
    if service is None or not service.spec.model.uri.startswith("hf://") or service.spec.model.token_secret is not None:
        return {}
    return {"model": {"tokenSecret": {"name": "hub", "key": "token"}}}


def _larger_disk(_evidence: Evidence) -> levers.Change:
    """A volume of its own for what is downloaded, in the place of the node's disk."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Gi"}}}
    volume = {"name": "cache", "emptyDir": None, "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
    return {"podTemplate": {"spec": {"volumes": [volume]}}}


def _more_memory(evidence: Evidence) -> levers.Change:
    if evidence.service is None:
        return {}
    return levers.more_cache(evidence.service) if evidence.on_gpu else levers.more_memory(evidence.service)


def _make_room(evidence: Evidence) -> levers.Change:
    """Where old pods still answer, one of them makes room."""
    return {"rollout": {"strategy": "recreate"}} if evidence.ready else {}


@dataclass(frozen=True)
class Cause:
    """What a pod's words tell: `sign` is looked for in the diagnosis and in the last line of the log."""

    rule: str
    sign: re.Pattern[str]
    advice: str
    change: Change = _nothing


_CAUSES = (
    Cause(
        "DiskFull",
        re.compile(r"No space left|[Ee]phemeral[- ]storage|DiskPressure|exceeds the total limit"),
        "free the node's disk, or give downloads a volume of their own; a model on a claim (pvc://) is loaded in place",
        _larger_disk,
    ),
    Cause(
        "NoAccessToModel",
        re.compile(r"the token that was given was refused"),
        "accept the model's terms on the hub by the token's account, or put a valid one into the Secret that "
        "spec.model.tokenSecret, or HF_TOKEN in spec.env, names",
    ),
    Cause(
        "NoAccessToModel",
        re.compile(r"no permission to read|no repository \S+ on the hub|the hub answered HTTP 40[13]"),
        "accept the model's terms on the hub, and name a Secret with a token: "
        "kubectl create secret generic hub --from-literal=token=...",
        _token,
    ),
    Cause(
        "HubUnreachable",
        re.compile(r"cannot reach the hub|download of .* failed|the hub answered HTTP"),
        "let the pods reach the hub (HTTPS_PROXY in spec.env, HF_ENDPOINT for a mirror), or put the model on a claim",
    ),
    Cause(
        "UnsupportedModel",
        re.compile(r"architecture must be one of|UnsupportedModel|unsupported"),
        "docs/models.md lists the families that are served; `octavo plan MODEL` says it without a download",
    ),
    Cause(
        "ModelDamaged",
        re.compile(r"SafetensorError|[Hh]eader|truncated|not a GGUF|shorter than"),
        "files of the model are incomplete: download them again",
    ),
    Cause(
        "ModelNotFound",
        re.compile(
            r"does not exist|has no revision|holds neither|some are missing|no builtin model|that it does not have"
        ),
        "correct spec.model.uri",
    ),
    Cause(
        "GpuDriver",
        re.compile(r"CUDA driver version|NVIDIA driver|no kernel image|no CUDA|not compiled with CUDA"),
        "the node's GPU driver does not suit the image: update it, or choose nodes by nodeSelector in podTemplate",
    ),
    Cause(
        "ModelDoesNotFit",
        re.compile(r"memory: must|kv_cache_memory|swap_space"),
        "give the pod more memory, or take a smaller or quantized model; `octavo plan MODEL` says what fits",
        _more_memory,
    ),
    Cause("NoGpu", re.compile(rf"Insufficient {re.escape(GPU)}"), "free a GPU, or add a node with one", _make_room),
)


def told_by(words: str) -> Cause | None:
    """The first cause that the words tell."""
    return next((cause for cause in _CAUSES if cause.sign.search(words)), None)
