"""Which of a source's files serving needs: those that are read, and no others."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from octavo_runtime.models.loading.safetensors_files import INDEX, SINGLE, indexed_files
from octavo_runtime.models.spec import UnsupportedModel

# Weights only as safetensors or GGUF: .bin and .pth files are pickles, which can run code when loaded.
TOKENIZER_PATTERNS = ("*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt")
# Of the modules that sentence-transformers puts behind a model.
_OF_A_MODULE = re.compile(r"[0-9]+_[A-Za-z]+/(config\.json|model\.safetensors)")
# One file of a model that llama.cpp's gguf-split has cut.
PART = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


class ModelNotFound(ValueError):
    """The model named does not exist or may not be read. One line for a person."""


def beside_weights(names: Iterable[str]) -> list[str]:
    """Configuration, tokenizer and templates among a source's files: of its first folder, not of original/, onnx/ and
    the like, which are other exports of the model; and the modules that sentence-transformers puts behind it."""
    names = list(names)
    modules = [name for name in names if _OF_A_MODULE.fullmatch(name)]
    return matching((name for name in names if "/" not in name), TOKENIZER_PATTERNS) + modules


def kept_as(name: str) -> str:
    """Where a source's file lies in the model's own folder: in a module's, or beside config.json."""
    return name if _OF_A_MODULE.fullmatch(name) else PurePosixPath(name).name


def weights(model: str, names: Sequence[str], file: str | None, index: Callable[[], Path]) -> list[str]:
    """The files that hold the weights. `names`: all of the source's; `file`: the GGUF file that is asked for, if one
    is; `index` brings the source's INDEX here. Raises ModelNotFound."""
    if file:
        if file not in names:
            raise ModelNotFound(f"model: {model} does not exist: the repository has no file {file}")
        return _whole(model, names, file)
    if INDEX in names:
        try:
            files = indexed_files(index())
        except UnsupportedModel as error:
            raise ModelNotFound(f"model: {error}") from None
        if missing := [name for name in files if name not in names]:
            raise ModelNotFound(f"model: {model} names files in {INDEX} that it does not have: {some(missing)}")
        return [INDEX, *files]
    if SINGLE in names:
        return [SINGLE]
    ggufs = first_parts(name for name in names if name.endswith(".gguf"))
    if len(ggufs) > 1:
        repo = model.partition("@")[0].rstrip("/")
        raise ModelNotFound(f"model: {model} has {len(ggufs)} GGUF models; name one, such as {repo}/{ggufs[0]}")
    if ggufs:
        return _whole(model, names, ggufs[0])
    found = [name for name in names if name.endswith((".safetensors", ".bin", ".pth", ".pt"))]
    raise ModelNotFound(
        f"model: {model} must have {INDEX}, {SINGLE} or a .gguf file, found {some(found) or 'no weights'}"
    )


def is_gguf(names: Collection[str]) -> bool:
    """Whether the weights among all of a source's files are GGUF files: where there are no safetensors."""
    return INDEX not in names and SINGLE not in names and any(name.endswith(".gguf") for name in names)


def part_names(name: str) -> list[str]:
    """The names of all files of the model that one file's name is of."""
    match = PART.fullmatch(name)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return [name]
    return [f"{match['stem']}-{number:05}-of-{match['count']}.gguf" for number in range(1, int(match["count"]) + 1)]


def first_parts(names: Iterable[str]) -> list[str]:
    """Of the names of GGUF files, one for each model: its first part."""
    return list(dict.fromkeys(part_names(name)[0] for name in names))


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that match one of the patterns."""
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def some(names: Iterable[str], most: int = 5) -> str:
    """The first names of many, in words."""
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _whole(model: str, names: Sequence[str], file: str) -> list[str]:
    """All parts of a GGUF model in a repository."""
    parts = part_names(file)
    if missing := [name for name in parts if name not in names]:
        raise ModelNotFound(f"model: of the {len(parts)} parts of {model} some are missing: {some(missing)}")
    return parts
