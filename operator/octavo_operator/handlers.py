"""What the operator watches: any event on a service, or on an object that is labelled as a service's, wakes its worker.

Only event handlers: kopf's other kinds write annotations and a finalizer, and `kubectl delete` would hang once the
operator is gone.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import kopf

from octavo_operator.api import GROUP, PLURAL, VERSION
from octavo_operator.cluster import connect
from octavo_operator.reconcile import reconcile
from octavo_operator.resources.metadata import SERVICE_LABEL
from octavo_operator.settings import Settings
from octavo_operator.worker import Workers
from octavo_runtime.config import parse_duration

# (group, version, plural) of what belongs to a service
_CHILDREN = (
    ("", "v1", "pods"),
    ("", "v1", "services"),
    ("", "v1", "configmaps"),
    ("", "v1", "serviceaccounts"),
    ("apps", "v1", "deployments"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("policy", "v1", "poddisruptionbudgets"),
)


# At start each kind is listed (events without a type), one after the other: what belongs to one service then arrives
# over a second or so, and is looked at once.
_LISTING = 1.0


def registry(operator_settings: Settings) -> kopf.OperatorRegistry:
    """Handlers for `kopf.run`, which makes the tasks and the connection at start and ends them at the end."""
    handlers = kopf.OperatorRegistry()
    running = AsyncExitStack()
    kopf.on.login(registry=handlers)(kopf.login_via_client)

    @kopf.on.startup(registry=handlers)
    async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
        _configure(settings, watch_cluster=not operator_settings.namespaces)
        cluster = await running.enter_async_context(connect())
        memo.workers = Workers(partial(reconcile, cluster, operator_settings), parse_duration(operator_settings.resync))
        running.push_async_callback(memo.workers.stop)

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        await running.aclose()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers)
    async def service_changed(namespace: str | None, name: str, memo: kopf.Memo, **_: Any) -> None:
        memo.workers.wake(str(namespace), name)

    for child in _CHILDREN:

        @kopf.on.event(*child, registry=handlers, id=child[2], labels={SERVICE_LABEL: kopf.PRESENT})
        async def child_changed(
            type: str | None, namespace: str | None, labels: Mapping[str, str], memo: kopf.Memo, **_: Any
        ) -> None:
            wake = partial(memo.workers.wake, str(namespace), labels[SERVICE_LABEL])
            if type is None:
                asyncio.get_running_loop().call_later(_LISTING, wake)
            else:
                wake()

    return handlers


def _configure(settings: kopf.OperatorSettings, *, watch_cluster: bool) -> None:
    settings.posting.enabled = False
    # Noticing that the CRD comes or changes takes rights on the whole cluster, which an operator for a few namespaces
    # is not given.
    settings.scanning.disabled = not watch_cluster
    settings.watching.server_timeout = 300
    for _, _, plural in _CHILDREN:
        settings.watching.label_selectors[plural] = SERVICE_LABEL
