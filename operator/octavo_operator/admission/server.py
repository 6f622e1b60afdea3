"""Serves the webhook over TLS, and tells the API server by what authority to know it."""

import asyncio
import base64
import logging
import ssl
from collections.abc import Mapping

from aiohttp import web

from octavo_operator.admission import review
from octavo_operator.certificates import certificate, secret
from octavo_operator.certificates.listening import listen
from octavo_operator.certificates.secret import Cluster
from octavo_operator.settings import Settings

logger = logging.getLogger(__name__)

PATH = "/validate"
_LOOK = 60.0  # seconds from one look at certificates and configuration to the next
_SOON = 2.0  # after what was in the way
_MAX_BODY = 8 * 2**20  # bytes; a review holds an object twice, and etcd takes 1.5 MiB of one
_KIND = "ValidatingWebhookConfiguration"


async def keep(cluster: Cluster, settings: Settings, name: str) -> None:
    """Serve for ever. `name`: NAMESPACE/NAME of the Service and of the Secret; NAMESPACE-NAME is the configuration's.
    Every replica serves, whoever leads."""
    namespace, _, own = name.partition("/")
    served: Mapping[str, bytes] | None = None
    runner: web.AppRunner | None = None
    told: str | None = ""
    try:
        while True:
            try:
                trouble = None
                files = await secret.kept(cluster, namespace, own)
                if isinstance(files, str):
                    trouble = files
                else:
                    # A new authority is known before its certificate is seen.
                    trouble = await _register(cluster, f"{namespace}-{own}", files[certificate.AUTHORITY])
                    if files != served:
                        if runner is not None:
                            await runner.cleanup()
                        runner = await listen(application(settings), settings.webhook_port, _tls(files))
                        served = files
            except Exception as error:
                # Whatever it is, it may be gone at the next look.
                trouble = " ".join(str(error).split())[:300] or type(error).__name__
            if trouble != told:
                level = logging.INFO if trouble is None else logging.WARNING
                logger.log(level, "webhook: %s", "serves" if trouble is None else f"will look again: {trouble}")
                told = trouble
            await asyncio.sleep(_LOOK if trouble is None else _SOON)
    finally:
        if runner is not None:
            await runner.cleanup()


async def _register(cluster: Cluster, name: str, authority: bytes) -> str | None:
    """Write the authority into the chart's configuration; why that cannot be, None where it is there."""
    live = await cluster.get(_KIND, None, name)
    if live is None:
        return f"{_KIND} {name} of the chart is not there: run helm upgrade"
    known = base64.b64encode(authority).decode()
    hooks = [hook | {"clientConfig": hook["clientConfig"] | {"caBundle": known}} for hook in live["webhooks"]]
    if hooks != live["webhooks"]:
        await cluster.merge(live, {"webhooks": hooks})
    return None


def _tls(files: Mapping[str, bytes]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    secret.load(context, files)
    return context


def application(settings: Settings) -> web.Application:
    """POST /validate takes an AdmissionReview. Who asks does not matter: the answer tells nothing but what is wrong
    with the question."""

    async def validate(request: web.Request) -> web.Response:
        try:
            return web.json_response(review.answer(await request.json(), settings))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            said = f"the body must be an AdmissionReview of an LLMService: {type(error).__name__}: {error}"
            return web.json_response({"message": said[:300]}, status=400)

    made = web.Application(client_max_size=_MAX_BODY)
    made.router.add_post(PATH, validate)
    return made
