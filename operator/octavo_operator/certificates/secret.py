"""The Secret that keeps them, of the name of the Service that is served so."""

import base64
import datetime
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from octavo_operator.certificates import certificate

Object = dict[str, Any]


class Cluster(Protocol):
    """What this needs of a connection to the API server."""

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None: ...
    async def merge(self, live: Object, content: Object) -> None: ...


async def kept(cluster: Cluster, namespace: str, name: str) -> Mapping[str, bytes] | str:
    """The files of certificate, or why there are none. The Secret is written where they were renewed; Stale where
    another replica was faster."""
    secret = await cluster.get("Secret", namespace, name)
    if secret is None:
        return f"Secret {namespace}/{name} of the chart is not there: run helm upgrade"
    held = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
    # The first is the one that the API server asks for.
    names = [f"{name}.{namespace}.svc", f"{name}.{namespace}"]
    files = certificate.renewed(held, names, datetime.datetime.now(datetime.UTC))
    if files != {key: held.get(key) for key in files}:
        encoded = {key: base64.b64encode(value).decode() for key, value in files.items()}
        await cluster.merge(secret, {"data": encoded})
    return files


def load(context: ssl.SSLContext, files: Mapping[str, bytes]) -> None:
    """Have a server answer with the certificate among the files."""
    with tempfile.TemporaryDirectory() as folder:  # ssl reads keys from files alone
        for name in (certificate.CERTIFICATE, certificate.KEY):
            path = Path(folder, name)
            path.touch(mode=0o600)
            path.write_bytes(files[name])
        context.load_cert_chain(Path(folder, certificate.CERTIFICATE), Path(folder, certificate.KEY))
