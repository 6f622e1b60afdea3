"""The head that a checkpoint has for texts: sentence-transformers' projections behind the pooling, or a decoder's
scores of a text."""

import torch

from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.sentence_modules import DenseModule, SentenceModules
from octavo_runtime.models.loading.stored_tensors import ReadTensor, dense
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.text_head import TextHead, TextLayer

SCORE = "score.weight"  # of a decoder, [labels, hidden]


def read_text_head(
    modules: SentenceModules | None, spec: ModelSpec, read: ReadTensor, head: str, device: torch.device
) -> TextHead:
    """modules: what stands behind the model; read: the checkpoint's tensors; head: the name of the one that scores
    words. An encoder's classifier is its own. Raises UnsupportedModel."""
    if spec.labels and spec.encoder is None:
        weight = dense(read(SCORE, (spec.labels, spec.word_size)))
        return TextHead([TextLayer(weight.to(device, torch.float32), None)])
    if modules is None:
        return TextHead()
    if modules.true_token is not None:
        words = dense(read(head, (spec.vocab_size, spec.word_size)))
        for token in (modules.true_token, modules.false_token):
            if token is not None and not 0 <= token < spec.vocab_size:
                raise UnsupportedModel(f"token ids must be from 0 to {spec.vocab_size - 1}, got {token}")
        weight = words[modules.true_token].float()
        if modules.false_token is not None:  # the difference of two products is one product
            weight = weight - words[modules.false_token].float()
        return TextHead([TextLayer(weight.unsqueeze(0).to(device), None)])
    width, layers = spec.word_size, []
    for module in modules.dense:
        if module.in_features != width:
            raise UnsupportedModel(f"{module.folder}: in_features must be {width}, got {module.in_features}")
        layers.append(_layer(module, device))
        width = module.out_features
    return TextHead(layers)


def _layer(module: DenseModule, device: torch.device) -> TextLayer:
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (module.out_features, module.in_features)}
    if module.has_bias:
        shapes["linear.bias"] = (module.out_features,)
    stored = SafetensorsFolder(module.folder)
    stored.check(shapes)
    weight, *bias = (dense(stored.read(name, shape)).to(device, torch.float32) for name, shape in shapes.items())
    return TextLayer(weight, bias[0] if bias else None, module.transfer)
