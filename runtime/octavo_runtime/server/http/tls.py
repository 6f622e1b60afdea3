"""TLS: the server's certificate, taken over when its files change, and those of clients where they are asked for."""

import ssl
from pathlib import Path

from octavo_runtime.config.server import ServerConfig
from octavo_runtime.server.http.watched_files import WatchedFiles


class Tls:
    """The certificate that a server shows; `context` is for its listener. Raises ValueError in one line where the files
    cannot be used."""

    def __init__(self, certificate: Path, key: Path, client_authorities: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        if client_authorities is not None:
            _load_authorities(self.context, client_authorities)
        self._watched = WatchedFiles([certificate, key], self._load)

    async def watch(self) -> None:
        """Takes over changes of the certificate for new connections, until it is cancelled."""
        await self._watched.watch()

    def _load(self) -> None:
        # On a context of its own first: half of a pair that does not match would spoil the one in use.
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
            try:
                context.load_cert_chain(self._certificate, self._key, password=_no_password)
            except (OSError, ValueError) as error:
                raise ValueError(_cause(self._certificate, self._key, error)) from None


def load_tls(config: ServerConfig) -> Tls | None:
    """What the configuration asks for; None where it asks for no TLS. Raises ValueError."""
    given = {
        name: Path(path)
        for name in ("tls_cert", "tls_key", "tls_client_ca")
        if (path := getattr(config, name)) is not None
    }
    if not given:
        return None
    for name in ("tls_cert", "tls_key"):
        if name not in given:
            raise ValueError(f"{name}: required with {next(iter(given))}")
    for name, path in given.items():
        try:
            path.open("rb").close()
        except OSError as error:
            raise ValueError(f"{name}: cannot read {path}: {error.strerror}") from None
    return Tls(given["tls_cert"], given["tls_key"], given.get("tls_client_ca"))


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(path)
    except OSError:
        raise ValueError(f"tls_client_ca: {path} holds no certificate in PEM form") from None


def _no_password() -> str:
    raise ValueError("it is encrypted, and nobody is there to type a password")


def _cause(certificate: Path, key: Path, error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"tls_key: {key} is not the key of the certificate {certificate}"
        if not _holds_certificate(certificate):
            return f"tls_cert: {certificate} holds no certificate in PEM form"
        return f"tls_key: {key} holds no private key in PEM form"
    if isinstance(error, OSError):
        return f"tls_cert, tls_key: cannot read {certificate} and {key}: {error.strerror}"
    return f"tls_key: cannot use {key}: {error}"


def _holds_certificate(path: Path) -> bool:
    try:
        ssl.create_default_context().load_verify_locations(path)
    except OSError:
        return False
    return True
