"""What a checkpoint was made for: to answer, to embed or to score; from its config.json and sentence-transformers'
files. Free of torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo_runtime.models.config_fields import shown
from octavo_runtime.models.loading.config_json import label_names
from octavo_runtime.models.loading.json_file import read_object
from octavo_runtime.models.loading.sentence_modules import SentenceModules, read_max_length, read_prompts
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.protocol.pooling import Pooling
from octavo_runtime.protocol.text_task import ScoreActivation, TextTask

_ACTIVATIONS: dict[str, ScoreActivation] = {"Sigmoid": "sigmoid", "Identity": "identity", "Softmax": "softmax"}


def text_task(folder: Path, spec: ModelSpec, modules: SentenceModules | None) -> TextTask:
    """The task of a model in a folder of Hugging Face's, with `modules` behind it. Raises UnsupportedModel."""
    config = read_object(folder / "config.json")
    longest = read_max_length(folder)
    if spec.labels or (modules is not None and modules.true_token is not None):
        labels = label_names(config) if spec.labels else ("LABEL_0",)
        prompts, default = ({}, None) if spec.labels else read_prompts(folder)
        return TextTask(
            task="score",
            pooling=_pooling(spec),
            normalize=False,
            prompts=prompts,
            default_prompt=default,
            max_length=longest,
            labels=labels,
            activation=_activation(folder, config, len(labels)),
            templated=not spec.labels,
        )
    if modules is None and spec.encoder is None:
        return TextTask()
    return _embedder(folder, config, modules or SentenceModules("mean", normalize=True), longest)


def _pooling(spec: ModelSpec) -> Pooling:
    """Of a model that scores texts."""
    if spec.encoder is None or spec.encoder.classifier is None:
        return "last"
    return spec.encoder.classifier.pooling


def _embedder(folder: Path, config: Mapping[str, Any], modules: SentenceModules, longest: int | None) -> TextTask:
    """Without modules.json it is what sentence-transformers makes of a plain encoder, a mean, at length 1."""
    if modules.pooling is None:
        raise UnsupportedModel(f"{folder / 'modules.json'}: must have a Pooling behind the Transformer, got none")
    prompts, default = read_prompts(folder)
    lengths = config.get("matryoshka_dimensions") or []
    if not isinstance(lengths, list) or not all(isinstance(one, int) and one >= 1 for one in lengths):
        raise UnsupportedModel(f"matryoshka_dimensions must be numbers of at least 1, got {shown(lengths)}")
    return TextTask(
        task="embed",
        pooling=modules.pooling,
        normalize=modules.normalize,
        prompts=prompts,
        default_prompt=default,
        max_length=longest,
        shortens=True,
        lengths=tuple(lengths),
    )


def _activation(folder: Path, config: Mapping[str, Any], labels: int) -> ScoreActivation:
    """As sentence-transformers' CrossEncoder finds it: where the files name none, sigmoid for a single score."""
    own = config.get("sentence_transformers")
    path = folder / "config_sentence_transformers.json"
    beside = read_object(path) if path.is_file() else {}
    named = (
        (own.get("activation_fn") if isinstance(own, dict) else None)
        or config.get("sbert_ce_default_activation_function")
        or beside.get("activation_fn")
    )
    if named is None:
        return "sigmoid" if labels == 1 else "softmax"
    kind = str(named).rpartition(".")[2]
    if kind not in _ACTIVATIONS:
        raise UnsupportedModel(f"activation_fn must be one of {', '.join(_ACTIVATIONS)}, got {shown(kind)}")
    return _ACTIVATIONS[kind]
