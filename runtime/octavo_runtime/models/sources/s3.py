"""Models in buckets, of Amazon's S3 or of what speaks its API at AWS_ENDPOINT_URL.

A prefix is a folder: its objects up to the next slash, and those below. The revision is a digest of their names, sizes
and ETags."""

import base64
import hashlib
import os
import re
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials.providers import ChainedProvider, EnvAWSProvider, IamAwsProvider, Provider
from minio.datatypes import Object
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from octavo_runtime.models.loading.selection import ModelNotFound
from octavo_runtime.models.sources import http
from octavo_runtime.models.sources.snapshot import Bytes, Digest, Interrupted, RemoteFile, Snapshot

_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[^?#]*))?")
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (spec.model.credentialsSecret in an LLMService)"
_TIMEOUT = urllib3.Timeout(connect=15, read=60)
_BLOCK = 2**20
_AT_ONCE = 8
_MD5 = re.compile(r"[0-9a-f]{32}")
# S3's words for what passes.
_PASSING = ("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "TooManyRequests")
_REFUSED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")


def parts(model: str) -> tuple[str, str]:
    """Bucket and prefix that s3://BUCKET/PREFIX names."""
    match = _URI.fullmatch(model)
    if match is None:
        raise ModelNotFound(f"model: must look like s3://BUCKET/PREFIX, got {model!r}")
    return match["bucket"], (match["prefix"] or "").strip("/")


def snapshot(model: str) -> Snapshot:
    """What a bucket holds below a prefix. Raises Interrupted and ModelNotFound."""
    bucket, prefix = parts(model)
    client, host = _client()
    file = None
    if prefix.endswith(".gguf"):
        folder, _, file = prefix.rpartition("/")
        prefix = folder
    start = f"{prefix}/" if prefix else ""
    with _explained(model, bucket, host):
        listed = client.list_objects(bucket, prefix=start, recursive=True)
        found = {str(each.object_name).removeprefix(start): each for each in listed if not each.is_dir}
    if not found:
        raise ModelNotFound(f"model: bucket {bucket} has nothing below {start or '/'} on {host}")
    said = "\n".join(f"{name} {each.size} {each.etag}" for name, each in sorted(found.items()))
    revision = hashlib.sha256(said.encode()).hexdigest()[:40]
    files = [name for name in found if _may_serve(name)]
    with _explained(model, bucket, host), ThreadPoolExecutor(_AT_ONCE) as pool:
        digests = dict(
            zip(files, pool.map(lambda name: _digest(client, bucket, start + name, found[name]), files), strict=True)
        )

    def remote(name: str, each: Object) -> RemoteFile:
        @contextmanager
        def read(offset: int) -> Iterator[Bytes]:
            # Another content than was listed is an error (HTTP 412), never half of each.
            headers: dict[str, str | list[str] | tuple[str]] = {"If-Match": f'"{each.etag}"'}
            with _explained(model, bucket, host):
                answer = client.get_object(bucket, start + name, offset=offset, request_headers=headers)
                try:
                    # What does not begin elsewhere answers 200, with all of it.
                    yield Bytes(offset if answer.status == 206 else 0, answer.stream(_BLOCK, decode_content=False))
                finally:
                    answer.close()
                    answer.release_conn()

        return RemoteFile(name, each.size or 0, digests.get(name), read)

    return Snapshot(revision, {name: remote(name, each) for name, each in found.items()}, file)


def _may_serve(name: str) -> bool:
    return "/" not in name or PurePosixPath(name).suffix in (".safetensors", ".gguf")


def _digest(client: Minio, bucket: str, key: str, listed: Object) -> Digest | None:
    """A checksum that was uploaded along; else an ETag that is an MD5, as it is of what came in one part and is not
    encrypted by a key of KMS's or of the client's."""
    headers: dict[str, str | list[str] | tuple[str]] = {"x-amz-checksum-mode": "ENABLED"}
    told: Mapping[str, str] = client.stat_object(bucket, key, extra_headers=headers).metadata or {}
    checksum = told.get("x-amz-checksum-sha256", "")
    if checksum and "-" not in checksum:
        return Digest("sha256", base64.b64decode(checksum).hex())
    encrypted = told.get("x-amz-server-side-encryption", "AES256") != "AES256"
    own_key = "x-amz-server-side-encryption-customer-algorithm" in told
    if listed.etag and _MD5.fullmatch(listed.etag) and not encrypted and not own_key:
        return Digest("md5", listed.etag)
    return None


def _client() -> tuple[Minio, str]:
    """By the environment's variables, as Amazon's own tools; without keys, as anybody. And the host that is asked."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    url = urlsplit(endpoint or "https://s3.amazonaws.com")
    if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/"):
        raise ModelNotFound(f"AWS_ENDPOINT_URL: must be a URL such as http://minio:9000, got {endpoint!r}")
    if endpoint and not region:
        region = "us-east-1"  # what servers of one's own mostly are; else asking for it takes a right of its own
    secure = url.scheme == "https"
    try:
        pool = _pool(url.scheme)
        client = Minio(url.netloc, credentials=_credentials(), secure=secure, region=region, http_client=pool)
    except ValueError as error:
        raise ModelNotFound(f"AWS_ENDPOINT_URL: {error}, got {endpoint!r}") from None
    return client, url.netloc


def _credentials() -> Provider | None:
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return EnvAWSProvider()
    roles = (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    if any(os.environ.get(name) for name in roles):
        return ChainedProvider([IamAwsProvider()])
    return None


def _pool(scheme: str) -> urllib3.PoolManager:
    """Tries again is what transfer does; a proxy as the environment names it."""
    settings = {"timeout": _TIMEOUT, "maxsize": _AT_ONCE, "retries": False, "ca_certs": os.environ.get("SSL_CERT_FILE")}
    host = urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname or "s3.amazonaws.com"
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        return urllib3.ProxyManager(proxy, **settings)  # type: ignore[arg-type]
    return urllib3.PoolManager(**settings)  # type: ignore[arg-type]


@contextmanager
def _explained(model: str, bucket: str, host: str) -> Iterator[None]:
    """Errors of the server's and of the network's, as Interrupted and ModelNotFound."""
    try:
        yield
    except ModelNotFound:
        raise
    except S3Error as error:
        said, wait = " ".join(str(error.message).split()), http.wait(error.response.headers.get("Retry-After"))
        raise _of_code(error.code or "", error.response.status, said, wait, model, bucket, host) from None
    except ServerError as error:
        raise _of_code("ServerError", error.status_code, "", None, model, bucket, host) from None
    except InvalidResponseError as error:
        # Not every server says that its XML is XML.
        code = re.search(r"<Code>(\w+)</Code>", error._body or "")
        word = code[1] if code else "is it an S3 server?"
        raise _of_code(word, error._code, "", None, model, bucket, host) from None
    except urllib3.exceptions.HTTPError as error:
        words = " ".join(str(error).split())
        raise Interrupted(f"no answer from {host}: {words or type(error).__name__}") from None
    except (MinioException, ValueError) as error:
        raise ModelNotFound(f"model: {model}: {' '.join(str(error).split())}") from None


def _of_code(
    code: str, status: int, said: str, wait: float | None, model: str, bucket: str, host: str
) -> Interrupted | ModelNotFound:
    if code in _PASSING or status == 429 or status >= 500:
        return Interrupted(f"{host} answers HTTP {status} ({code})", wait)
    if code == "NoSuchBucket":
        return ModelNotFound(f"model: there is no bucket {bucket} on {host}")
    if code in ("NoSuchKey", "ResourceNotFound"):
        return ModelNotFound(f"model: {model} is not there any more on {host}")
    if code in _REFUSED or status in (401, 403):
        given = "check" if os.environ.get("AWS_ACCESS_KEY_ID") else "set"
        return ModelNotFound(f"model: no permission to read {model} on {host} ({code}); {given} {_KEYS}")
    if code == "PreconditionFailed":
        return Interrupted(f"{model} was changed on {host} while it was downloaded")
    return ModelNotFound(f"model: {host} answered HTTP {status} for {model}: {code}{f': {said}' if said else ''}")
