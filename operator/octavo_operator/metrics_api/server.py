"""Serves the API over TLS: its certificate from the Secret, made anew in time; its callers by the front
proxy's. Registered once a service asks for it."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from octavo_operator.certificates import certificate, secret
from octavo_operator.certificates.listening import listen
from octavo_operator.cluster import Stale
from octavo_operator.metrics_api import front_proxy, registration
from octavo_operator.metrics_api.api import application
from octavo_operator.metrics_api.front_proxy import FrontProxy
from octavo_operator.metrics_api.registration import Cluster
from octavo_operator.scraping.readings import Readings

logger = logging.getLogger(__name__)

_LOOK = 60.0  # seconds from one look at certificates and registration to the next
_SOON = 2.0  # after what was in the way
OFF = (
    "this installation does not serve custom.metrics.k8s.io (metricsApi.enabled in the chart's values; the API is the "
    "whole cluster's, and an installation for some namespaces takes it on request alone): set it to true, or "
    "spec.autoscaling.provider to keda or prometheus-adapter"
)


@dataclass(frozen=True)
class _Credentials:
    files: Mapping[str, bytes]
    trusted: FrontProxy


class MetricsApi:
    """`name`: NAMESPACE/NAME of the Service and of the Secret; None: the API is not served. `changed` is called with
    each service (namespace, name) that asks for it when `trouble` becomes another."""

    def __init__(
        self, cluster: Cluster, readings: Readings, name: str | None, port: int, changed: Callable[[str, str], None]
    ) -> None:
        self._cluster = cluster
        self.readings = readings
        self._namespace, _, self._name = (name or "").partition("/")
        self._port = port
        self._changed = changed
        self.trouble: str | None = OFF if name is None else "the metrics API is starting"

    async def keep(self) -> None:
        """Serve for ever, once a service asks for it."""
        if not self._name:
            return
        await self.readings.wanted()
        served: _Credentials | None = None
        runner: web.AppRunner | None = None
        pause = _SOON
        try:
            while True:
                try:
                    credentials = await self._credentials()
                    if isinstance(credentials, str):
                        self._tell(credentials)
                    else:
                        if runner is None or served != credentials:
                            if runner is not None:
                                # The new authority is known before its certificate is seen.
                                await self._register(credentials)
                                await runner.cleanup()
                            runner = await self._listen(credentials)
                            served = credentials
                        self._tell(await self._register(credentials))
                except Exception as error:
                    # Whatever it is, it may be gone at the next look.
                    words = " ".join(str(error).split())[:300]
                    self._tell(f"the metrics API cannot be served: {words or type(error).__name__}")
                    if not isinstance(error, Stale):
                        logger.debug("metrics API", exc_info=True)
                await asyncio.sleep(pause if self.trouble else _LOOK)
                pause = min(2 * pause, _LOOK) if self.trouble else _SOON
        finally:
            if runner is not None:
                await runner.cleanup()

    def _tell(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        logger.log(logging.INFO if trouble is None else logging.WARNING, "metrics API: %s", trouble or "serves")
        for key in self.readings.services():
            self._changed(*key)

    async def _credentials(self) -> _Credentials | str:
        """What to serve with, or why there is nothing. The Secret is written where its files were renewed."""
        trusted = front_proxy.read(await self._cluster.get("ConfigMap", front_proxy.NAMESPACE, front_proxy.CONFIG_MAP))
        if trusted is None:
            return "the API server has no aggregation layer (--requestheader-client-ca-file)"
        files = await secret.kept(self._cluster, self._namespace, self._name)
        if isinstance(files, str):
            return files
        return _Credentials(files, trusted)

    async def _register(self, credentials: _Credentials) -> str | None:
        return await registration.register(
            self._cluster, self._namespace, self._name, credentials.files[certificate.AUTHORITY]
        )

    async def _listen(self, credentials: _Credentials) -> web.AppRunner:
        return await listen(application(self.readings, credentials.trusted), self._port, tls(credentials))


def tls(credentials: _Credentials) -> ssl.SSLContext:
    """Of the server. A caller without a certificate gets as far as an HTTP error; one with a certificate of another
    authority's making does not."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=credentials.trusted.authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # newer Pythons ask for fields that clusters' certificates lack
    secret.load(context, credentials.files)
    return context
