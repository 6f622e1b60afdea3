"""Models of the Hugging Face hub, or of what speaks its HTTP API at HF_ENDPOINT."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils._headers import build_hf_headers

from octavo_runtime.models.loading.selection import ModelNotFound
from octavo_runtime.models.sources import http
from octavo_runtime.models.sources.snapshot import Digest, Interrupted, Offline, RemoteFile, Snapshot

_URI = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+\.gguf))?(?:@(?P<revision>[^@]+))?")
_COMMIT = re.compile(r"\w[\w.-]*")
_TOKEN = "HF_TOKEN (spec.model.tokenSecret in an LLMService)"  # noqa: S105 - words


def parts(model: str) -> tuple[str, str | None, str | None]:
    """Repository, file and revision that hf://OWNER/NAME[/FILE.gguf][@REVISION] names."""
    match = _URI.fullmatch(model)
    if match is None:
        raise ModelNotFound(f"model: must look like hf://OWNER/NAME[@REVISION], got {model!r}")
    return match["repo"], match["file"], match["revision"]


def snapshot(model: str) -> Snapshot:
    """What the hub holds of a repository, by the token of HF_TOKEN. Raises Interrupted and ModelNotFound, of which
    Offline."""
    repo, file, revision = parts(model)
    with _explained(model), answering(model):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):  # it becomes the name of a folder
        raise _foreign(model)
    asking, headers = http.client(), build_hf_headers()

    def remote(sibling: RepoSibling) -> RemoteFile:
        name, url = sibling.rfilename, hf_hub_url(repo, sibling.rfilename, revision=commit)
        size, digest = sibling.size, None
        if sibling.lfs is not None:
            size, digest = sibling.lfs.size, Digest("sha256", sibling.lfs.sha256)
        elif sibling.blob_id:
            digest = Digest("git", sibling.blob_id)
        if size is None:  # a mirror may say less than the hub
            with _explained(model):
                size = get_hf_file_metadata(url).size or 0

        def check(response: httpx.Response) -> None:
            if response.status_code >= 400:
                raise http.interruption(response, "the hub") or ModelNotFound(
                    f"model: {_of_status(response.status_code, model, repo)}"
                )

        return RemoteFile(name, size, digest, lambda offset: http.read(asking, url, headers, offset, check))

    return Snapshot(commit, {sibling.rfilename: remote(sibling) for sibling in info.siblings or []}, file)


@contextmanager
def answering(model: str) -> Iterator[None]:
    """Answers that are none of the hub's, such as a proxy's page, and a token that cannot be sent, as ModelNotFound."""
    try:
        yield
    except HFValidationError:  # of the name that is asked for
        raise
    except UnicodeEncodeError:  # of a header; what is asked for is of ASCII
        raise ModelNotFound(f"model: the token must be of ASCII characters; see {_TOKEN}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _foreign(model) from None


@contextmanager
def _explained(model: str) -> Iterator[None]:
    """Errors of huggingface_hub's and of the network, as Interrupted and ModelNotFound."""
    try:
        yield
    except (OSError, httpx.HTTPError) as error:
        raise _raised(error, model) from None


def _foreign(model: str) -> ModelNotFound:
    return ModelNotFound(f"model: what answers at {ENDPOINT} for {model} is not the hub; see HF_ENDPOINT and proxies")


def explain(error: Exception, model: str) -> str:
    """What an error of huggingface_hub's means, in one line."""
    repo, _, revision = parts(model)
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {revision!r}"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if isinstance(error, GatedRepoError):
            return _of_status(403 if status == 404 else status, model, repo)
        if isinstance(error, RepositoryNotFoundError) and status not in (401, 403):
            return _of_status(404, model, repo)
        if isinstance(error, RepositoryNotFoundError):
            return f"no repository {repo} on the hub that may be read (HTTP {status}); if it is private {_to_set()}"
        return _of_status(status, model, repo)
    return f"download of {model} failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _of_status(status: int, model: str, repo: str) -> str:
    if status in (401, 403):
        do = f"accept its terms on the hub and {_to_set()}"
        if _gives_token():
            do = f"the token that was given was refused: accept the terms on the hub by its account, or {_to_set()}"
        return f"no permission to read {repo} (HTTP {status}); {do}"
    if status == 404:
        return f"no repository {repo} on the hub; if it is private {_to_set()}"
    return f"the hub answered HTTP {status} for {model}"


def _gives_token() -> bool:
    """Whether the hub is asked with a token, of the environment or of a file."""
    return "authorization" in build_hf_headers()


def _to_set() -> str:
    return f"set another {_TOKEN}" if _gives_token() else f"set {_TOKEN}"


def _raised(error: Exception, model: str) -> Exception:
    if isinstance(error, OfflineModeIsEnabled):
        return Offline(f"model: {explain(error, model)}")
    if isinstance(error, HfHubHTTPError) and (passing := http.interruption(error.response, "the hub")):
        return passing
    if isinstance(error, httpx.UnsupportedProtocol):  # no address to try again
        return ModelNotFound(f"HF_ENDPOINT: must be a URL such as https://huggingface.co, got {ENDPOINT!r}")
    if isinstance(error, httpx.TransportError):
        return Interrupted(f"no answer from the hub: {str(error) or type(error).__name__}")
    return ModelNotFound(f"model: {explain(error, model)}")
