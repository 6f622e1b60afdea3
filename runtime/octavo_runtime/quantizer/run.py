"""`octavo quantize`: from a model to a folder, one layer after another.

Two sets of texts walk through the model with it. Those for calibration go on through each layer as it was written, so
that a layer makes up for what those before it lost; the held-out ones go through both models, which judges the second.
A layer that an earlier run wrote is read again, not made again: both runs go on from the same numbers."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.experts import in_stored_form
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.loading.finite import finite
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.tensor_shapes import tensor_shapes
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import layer_prefix
from octavo_runtime.planning.gpus import find_gpu
from octavo_runtime.quantization.configuration import scheme_of
from octavo_runtime.quantizer.calibration import check_length, read_texts
from octavo_runtime.quantizer.feed_forward import beside_experts
from octavo_runtime.quantizer.judging import judge
from octavo_runtime.quantizer.layer import check_sizes, quantize_layer
from octavo_runtime.quantizer.output import OutputFolder
from octavo_runtime.quantizer.recipe import CannotQuantize, Recipe
from octavo_runtime.quantizer.report import Judged, report
from octavo_runtime.quantizer.source import Source, open_source
from octavo_runtime.quantizer.streams import (
    advance,
    build_ends,
    build_layer,
    embed,
    inputs_of_layer,
    scores,
)
from octavo_runtime.text.tokenizer import load_tokenizer

VERSION = 2
"""Of what a recipe brings: it is raised with every change of that, so that no run goes on with another's layers."""


def run(model: str, out: Path, recipe: Recipe, calibration: Path | None, gpu: str, device: str) -> int:
    """Writes the folder, and prints what came of it. Raises ValueError with one line for what cannot be done."""
    serving = find_gpu(gpu, "")
    place = _device(device)
    source = open_source(model, takes_experts=recipe.takes_experts)
    spec = source.spec
    check_sizes(spec, recipe)
    check_length(spec, recipe.sample_tokens, "sample-tokens")
    if out.resolve().is_relative_to(source.folder.resolve()):
        raise CannotQuantize(f"out: must be a folder outside the model's, got {out}")
    tokenizer = load_tokenizer(ModelFiles(source.folder.name, source.folder, None))
    texts = read_texts(calibration, tokenizer, spec.vocab_size, recipe)
    identity = {"quantizer version": VERSION, "model": source.digest, **asdict(recipe), "texts": texts.digest}
    with OutputFolder(out, identity, spec.num_layers + 1) as folder, torch.inference_mode():
        read = f"{len(texts.calibration)} texts for calibration, {len(texts.held_out)} held out"
        _say(f"{read}, of {recipe.sample_tokens} tokens each")
        judged = _walk(source, folder, recipe, texts.calibration, texts.held_out, place)
        if not folder.has(spec.num_layers):
            folder.write(spec.num_layers, source.rest())
        size = folder.finish(source.folder, {**source.config, "quantization_config": recipe.configuration(_kept(spec))})
        _check(out)
        # Before the work is closed: a run that ends in between would have nothing to take up, and no report.
        print(report(judged, (source.size, size), spec, recipe, serving, sum(folder.counts.values())), flush=True)
        folder.close_work()
    print(out)
    return 0


def _walk(
    source: Source,
    folder: OutputFolder,
    recipe: Recipe,
    calibration: Sequence[Sequence[int]],
    held_out: Sequence[Sequence[int]],
    device: torch.device,
) -> Judged:
    """Writes all layers."""
    spec = source.spec
    narrow = replace(spec, quantization=scheme_of(recipe.configuration(_kept(spec))))
    ends = build_ends(spec, finite(source.checkpoint.read), device)
    learned = [embed(ends, text, device) for text in calibration] if recipe.needs_inputs else []
    before = [embed(ends, text, device) for text in held_out]
    after = [stream.copy() for stream in before]
    del ends
    began, made = time.monotonic(), 0
    for index in range(spec.num_layers):
        in_files, in_model = source.prefixes(index)
        tensors = {name: tensor.to(device) for name, tensor in source.layer(index).items()}
        decoder = build_layer(spec, index, tensors, device)
        advance(decoder, before)
        if not folder.has(index):
            inputs = inputs_of_layer(decoder, learned) if learned else None
            del decoder
            done = quantize_layer(tensors, inputs, spec, index, recipe)
            del inputs
            stored = {name: each.cpu().contiguous() for name, each in done.tensors.items()}
            folder.count(index, done.few)
            folder.write(index, _renamed(stored, in_model, in_files))
            made += 1
            left = (time.monotonic() - began) / made * (spec.num_layers - index - 1)
            _say(f"layer {index + 1} of {spec.num_layers}: error {done.error:.2%}, about {left:.0f} s left")
            del done, stored
        else:
            del decoder
            _say(f"layer {index + 1} of {spec.num_layers}: written already")
        del tensors
        written = {name: each.to(device) for name, each in _renamed(folder.read(index), in_files, in_model).items()}
        advance(build_layer(narrow, index, written, device), [*learned, *after])
    ends = build_ends(spec, source.checkpoint.read, device)
    both = ((scores(ends, old), scores(ends, new)) for old, new in zip(before, after, strict=True))
    return judge(both, held_out)


def _kept(spec: ModelSpec) -> list[str]:
    """The modules beside experts that choose and weigh them."""
    beside = [(index, name) for index in sorted(spec.expert_layers) for name in beside_experts(spec)]
    return [f"{layer_prefix(index)}{name}".removesuffix(".weight") for index, name in beside]


def _renamed(tensors: Mapping[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    """With another beginning of their names."""
    return {new + name.removeprefix(old): tensor for name, tensor in tensors.items()}


def _check(folder: Path) -> None:
    """Holds what was written against what loading it needs. Raises UnsupportedModel."""
    spec = spec_from_folder(folder)
    checkpoint = SafetensorsFolder(folder, spec.unread, spec.tensors.beginnings, spec.quantization)
    checkpoint.ties(spec.tie_embeddings)
    checkpoint.check(tensor_shapes(in_stored_form(spec, checkpoint.has)))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise CannotQuantize("device: must be cpu or auto where there is no CUDA device, got cuda")
    return torch.device(name)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
