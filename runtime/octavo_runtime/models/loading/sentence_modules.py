"""The files by which sentence-transformers says what comes behind a model (modules.json and the folders that it names),
and what to make of a text (config_sentence_transformers.json, sentence_bert_config.json). Free of torch.

What of them would change a vector and is not understood is refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo_runtime.layers.activation import Transfer
from octavo_runtime.models.config_fields import shown
from octavo_runtime.models.loading.json_file import read_object, read_objects
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.protocol.pooling import Pooling

_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last"}
_OLD_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_TRANSFERS: dict[str, Transfer] = {
    "Identity": "identity",
    "Tanh": "tanh",
    "GELU": "gelu",
    "ReLU": "relu",
    "Sigmoid": "sigmoid",
}
_NO_BOUND = 2**31
_USUAL = {
    "use_residual": False,
    "module_input_name": "sentence_embedding",
    "module_output_name": "sentence_embedding",
}  # of a Dense


@dataclass(frozen=True)
class DenseModule:
    """A projection behind the pooling, whose weights lie in a folder of its own."""

    folder: Path
    in_features: int
    out_features: int
    has_bias: bool
    transfer: Transfer


@dataclass(frozen=True)
class SentenceModules:
    """What modules.json lists. pooling: None where there is none, as in a model that scores. true_token, false_token:
    of a decoder whose score of a text is the first word's logit as the next token, less the other's."""

    pooling: Pooling | None = None
    dense: tuple[DenseModule, ...] = ()
    normalize: bool = False
    true_token: int | None = None
    false_token: int | None = None


def read_modules(folder: Path) -> SentenceModules | None:
    """None where the folder has no modules.json. Raises UnsupportedModel."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return None
    kinds = [(_kind(one, listing), folder / str(one.get("path", ""))) for one in read_objects(listing)]
    names = [kind for kind, _ in kinds]
    if names[:1] != ["Transformer"]:
        raise UnsupportedModel(f"{listing}: must begin with a Transformer, got {shown(', '.join(names))}")
    pooling: Pooling | None = None
    dense: list[DenseModule] = []
    true_token = false_token = None
    for place, (kind, at) in enumerate(kinds[1:], 1):
        if kind == "Pooling" and place == 1:
            pooling = _pooling(at / "config.json")
        elif kind == "LogitScore" and place == 1 and len(kinds) == 2:
            true_token, false_token = _words(at / "config.json")
        elif kind == "Dense" and pooling is not None:
            dense.append(_dense(at))
        elif not (kind == "Normalize" and pooling is not None and place == len(kinds) - 1):
            known = "Transformer and LogitScore, or Transformer, Pooling, any number of Dense, and perhaps Normalize"
            raise UnsupportedModel(f"{listing}: must be {known}, got {shown(', '.join(names))}")
    return SentenceModules(pooling, tuple(dense), names[-1] == "Normalize", true_token, false_token)


def read_prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    """The texts that stand in front of inputs, by name, and the name of the one that does where none is asked for."""
    path = folder / "config_sentence_transformers.json"
    config = read_object(path) if path.is_file() else {}
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise UnsupportedModel(f"{path}: prompts must be texts by name, got {shown(prompts)}")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        raise UnsupportedModel(f"{path}: default_prompt_name must be one of the prompts, got {shown(default)}")
    return prompts, default


def read_max_length(folder: Path) -> int | None:
    """Most tokens of a text that are read; None where the files do not say. Newer ones say it of the tokenizer, for
    which a number beyond all bounds stands for none."""
    path, name = folder / "sentence_bert_config.json", "max_seq_length"
    found = read_object(path).get(name) if path.is_file() else None
    if found is None and (folder / "tokenizer_config.json").is_file():
        path, name = folder / "tokenizer_config.json", "model_max_length"
        found = read_object(path).get(name)
        if isinstance(found, int | float) and found >= _NO_BOUND:
            return None
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 1):
        raise UnsupportedModel(f"{path}: {name} must be at least 1, got {shown(found)}")
    return found


def _kind(module: Mapping[str, Any], listing: Path) -> str:
    """The last part of a module's class name."""
    kind, path = module.get("type"), module.get("path", "")
    if not isinstance(kind, str) or not kind.startswith("sentence_transformers."):
        raise UnsupportedModel(f"{listing}: types must be of sentence_transformers, got {shown(kind)}")
    if not isinstance(path, str) or Path(path).name != path or path == "..":
        raise UnsupportedModel(f"{listing}: paths must name folders beside it, got {shown(path)}")
    return kind.rpartition(".")[2]


def _pooling(path: Path) -> Pooling:
    config = read_object(path)
    asked = config.get("pooling_mode") or [name for old, name in _OLD_NAMES.items() if config.get(old)] or "mean"
    modes = asked if isinstance(asked, list) else [asked]
    if len(modes) != 1 or not isinstance(modes[0], str) or modes[0] not in _POOLINGS:
        raise UnsupportedModel(f"{path}: pooling_mode must be one of {', '.join(_POOLINGS)}, got {shown(asked)}")
    if config.get("include_prompt", True) is not True:
        raise UnsupportedModel(f"{path}: include_prompt must be true, got {shown(config['include_prompt'])}")
    return _POOLINGS[modes[0]]


def _dense(folder: Path) -> DenseModule:
    path = folder / "config.json"
    config = read_object(path)
    sizes: list[int] = []
    for name in ("in_features", "out_features"):
        size = config.get(name)
        if not isinstance(size, int) or not 1 <= size <= 2**24:
            raise UnsupportedModel(f"{path}: {name} must be from 1 to {2**24}, got {shown(size)}")
        sizes.append(size)
    transfer = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if transfer not in _TRANSFERS:
        raise UnsupportedModel(
            f"{path}: activation_function must be one of {', '.join(_TRANSFERS)}, got {shown(transfer)}"
        )
    for name, usual in _USUAL.items():
        if config.get(name, usual) not in (None, usual):
            raise UnsupportedModel(f"{path}: {name} must be {usual}, got {shown(config[name])}")
    has_bias = config.get("bias", True) is True
    return DenseModule(folder, sizes[0], sizes[1], has_bias, _TRANSFERS[transfer])


def _words(path: Path) -> tuple[int, int | None]:
    config = read_object(path)
    true, false = config.get("true_token_id"), config.get("false_token_id")
    if not isinstance(true, int) or not isinstance(false, int | None):
        raise UnsupportedModel(f"{path}: true_token_id must be a token, got {shown(true)} and {shown(false)}")
    return true, false
