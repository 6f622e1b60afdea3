"""The ways in: as the operator, by its pod's service account, and as the person at a terminal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient

from octavo_operator.cluster.connection import Connection
from octavo_operator.cluster.refusals import Trouble

# Where Kubernetes tells a pod its namespace.
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


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
    except (config.ConfigException, OSError, TypeError, KeyError, ValueError) as error:
        if context is not None:
            raise Trouble(f"--context: kubeconfig has no usable {context!r}: {' '.join(str(error).split())}") from None
        try:
            config.load_incluster_config()
        except config.ConfigException:
            raise Trouble(f"no cluster: kubeconfig cannot be used: {' '.join(str(error).split())}") from None
        namespace = _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"
    async with ApiClient() as api:
        yield Connection(api), namespace
