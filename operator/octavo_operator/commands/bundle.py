"""The support bundle: what somebody who cannot reach the cluster needs to see, in one archive, without secrets."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from octavo_operator import kinds
from octavo_operator.cluster import Connection, Forbidden, Refused, Trouble
from octavo_operator.commands import report
from octavo_operator.commands.evidence import DASHBOARDS, NO_METRICS, Evidence, Object
from octavo_operator.commands.gather import missing_right, through_pod
from octavo_operator.commands.load import load
from octavo_operator.commands.redaction import redact, scrub
from octavo_operator.commands.rules import findings
from octavo_runtime import __version__

LOG_LINES = 5000
_OPERATOR = "app.kubernetes.io/name=octavo-operator"
_GENERATED = ("ConfigMap", DASHBOARDS)  # long, and the same everywhere


async def collect(cluster: Connection, evidence: Evidence, api_key: str) -> dict[str, str]:
    """The files of a bundle, by their names, and what of a cluster the evidence does not hold: the metrics as they were
    told, and the operator."""
    unread = dict(evidence.unread)
    metrics = {}
    for pod in evidence.samples:
        (body,) = (each for each in evidence.pods if each["metadata"]["name"] == pod)
        try:
            reply = await cluster.ask(through_pod(body, "/metrics"), headers={"x-api-key": api_key} if api_key else {})
            metrics[pod] = reply.text
        except (Forbidden, Trouble) as error:  # it ended meanwhile
            unread[NO_METRICS] = str(error)
    operator = await _operator(cluster, unread)
    return files(evidence, metrics, operator, unread)


async def _operator(cluster: Connection, unread: dict[str, str]) -> dict[str, Any]:
    """The operators' Deployments, and the logs of their pods."""
    found: dict[str, Any] = {}
    try:
        deployments = await cluster.read("/apis/apps/v1/deployments", labelSelector=_OPERATOR)
        pods = await cluster.read("/api/v1/pods", labelSelector=_OPERATOR)
        for deployment in (deployments or {"items": []})["items"]:
            found[f"deployment-{deployment['metadata']['namespace']}.yaml"] = deployment
        for pod in (pods or {"items": []})["items"]:
            metadata = pod["metadata"]
            path = f"{kinds.path('Pod', metadata['namespace'], metadata['name'])}/log"
            found[f"{metadata['name']}.log"] = await cluster.text(path, tailLines=str(LOG_LINES)) or ""
    except Forbidden as error:
        unread["operator"] = missing_right(error)
    except (Refused, Trouble) as error:
        unread["operator"] = str(error)
    return found


def files(
    evidence: Evidence, metrics: Mapping[str, str], operator: Mapping[str, Any], unread: Mapping[str, str]
) -> dict[str, str]:
    """Every file by its name, without secrets: what stands as one in an object is taken out of all. Pure."""
    objects: dict[str, Any] = {"llmservice.yaml": evidence.body}
    objects |= {f"owned/{kind}.yaml": each for kind, each in evidence.owned.items() if kind not in _GENERATED}
    objects |= {f"namespace/{kind}.yaml": list(each) for kind, each in evidence.lists.items() if kind not in _GENERATED}
    objects |= {f"pods/{pod['metadata']['name']}.yaml": pod for pod in evidence.pods}
    objects["events.yaml"] = [event for events in evidence.events.values() for event in events]
    objects |= {f"operator/{name}": each for name, each in operator.items() if isinstance(each, dict)}
    about = {"octavo": __version__, "time": evidence.now.isoformat(timespec="seconds"), "unread": dict(unread)}
    texts = {"about.json": json.dumps(about, indent=2)}
    texts["why.json"] = json.dumps(report.findings(evidence, load(evidence.samples), findings(evidence)), indent=2)
    for pod, log in evidence.logs.items():
        texts |= {f"pods/{pod}.log": log.current} | ({f"pods/{pod}.previous.log": log.previous} if log.previous else {})
    texts |= {f"pods/{pod}.metrics": text for pod, text in metrics.items()}
    texts |= {f"operator/{name}": each for name, each in operator.items() if isinstance(each, str)}
    secrets: set[str] = set()
    for name, each in objects.items():
        clean, found = redact(each)
        secrets |= found
        texts[name] = yaml.safe_dump(clean, sort_keys=False, allow_unicode=True)
    return {name: scrub(text, secrets) for name, text in sorted(texts.items())}


def write(path: Path, files: Mapping[str, str], time: float) -> None:
    """Writes the archive, for its owner alone; FileExistsError where there is one. `time`: of its files, Unix."""
    with path.open("xb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        path.chmod(0o600)
        for name, text in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time), 0o600
            archive.addfile(entry, io.BytesIO(content))


def name(body: Object, stamp: str) -> str:
    """What a bundle is called unless told otherwise."""
    metadata = body["metadata"]
    return f"octavo-bundle-{metadata['namespace']}-{metadata['name']}-{stamp}.tar.gz"
