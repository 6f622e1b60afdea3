"""The ways in: as the operator, by its pod's service account, and as the person at a terminal."""

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient

from octavo_operator.cluster.connection import Connection
from octavo_operator.cluster.refusals import Trouble
from octavo_runtime.config.user_path import user_path

# Where Kubernetes tells a pod its namespace.
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

# What the client raises of a kubeconfig, in which anything may stand.
_UNUSABLE = (
    config.ConfigException, OSError, TypeError, KeyError, ValueError, AttributeError, RecursionError, yaml.YAMLError,
)  # fmt: skip


@asynccontextmanager
async def connect() -> AsyncIterator[Connection]:
    """A connection with the pod's own service account, or with KUBECONFIG outside of a cluster."""
    try:
        config.load_incluster_config()
    except config.ConfigException:
        await config.load_kube_config()
    async with ApiClient() as api:
        yield Connection(api)


@asynccontextmanager
async def connect_as_user(context: str | None) -> AsyncIterator[tuple[Connection, str]]:
    """A connection as kubectl makes it, by KUBECONFIG or ~/.kube/config, else with a pod's service account; and the
    namespace that the context names. `context`: another than the current one. Trouble where there is no way in."""
    try:
        loaded = await config.load_kube_config(context=context, persist_config=False)
        namespace = loaded.current_context["context"].get("namespace", "default")
    except _UNUSABLE as error:
        if context is not None:
            raise Trouble(f"--context: kubeconfig has no usable {context!r}: {_fault(error)}") from None
        try:
            config.load_incluster_config()
        except config.ConfigException:
            raise Trouble(f"no cluster: kubeconfig cannot be used: {_fault(error)}") from None
        namespace = _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"
    try:
        api = ApiClient()
    except OSError as error:  # of certificates
        raise Trouble(f"no cluster: kubeconfig cannot be used: {_fault(error)}") from None
    async with api:
        yield Connection(api), namespace


def _fault(error: Exception) -> str:
    """What is wrong with the kubeconfig, and in which file; nothing of what is in it, which may be a secret."""
    named, read = [user_path(name) for name in config.KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep) if name], []
    for path in named:
        try:
            held = {} if path.is_fifo() else yaml.safe_load(path.read_text())
        except FileNotFoundError:
            continue
        except OSError as failure:
            return f"{path}: {failure.strerror}"
        except (ValueError, RecursionError, yaml.YAMLError) as failure:
            mark = getattr(failure, "problem_mark", None)
            return f"{path}: is no YAML" + (f", line {mark.line + 1}" if mark else "")
        if not isinstance(held, dict):
            return f"{path}: must be a YAML object with clusters, users and contexts, and is none"
        read.append(path)
    if not read:
        return f"{_listed(named)}: no such file" if named else "KUBECONFIG names no file"
    if isinstance(error, config.ConfigException):
        what = " ".join(str(error).split())
    elif isinstance(error, OSError):
        what = str(error.strerror)
    else:
        what = f"a field is missing, or of another type ({error!r:.100})"
    return f"{_listed(read)}: {what}"


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))
