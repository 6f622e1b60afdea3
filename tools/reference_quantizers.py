"""Quantises a model with llm-compressor, in each format that `octavo quantize` has a method for, to compare with by
`octavo bench quantizers`. Runs where octavo and llmcompressor are installed together, beside this repository's own
environment: docs/quantization.md says what came of it.

    reference_quantizers.py ORIGINAL OUT [--group-size 64] [--samples 32] [--sample-tokens 256] [NAME ...]

ORIGINAL: a folder of safetensors, or a GGUF file, which is first unpacked to OUT/original. Calibrates by the texts that
`octavo quantize` reads by itself. Makes OUT/NAME for each of gptq, awq, int8 and fp8, or those that are named."""

import argparse
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from transformers import AutoModelForCausalLM, AutoTokenizer

from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.quantizer.calibration import read_texts
from octavo_runtime.quantizer.recipe import Recipe
from octavo_runtime.text.tokenizer import load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=["gptq", "awq", "int8", "fp8"])
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--sample-tokens", type=int, default=256)
    asked = parser.parse_args()
    if not torch.cuda.is_available():  # nothing to copy to faster
        IntermediatesCache.pin_memory = lambda *_: None
    original = asked.original
    if original.suffix == ".gguf":
        original = asked.out / "original"
        if not original.is_dir():
            unpack(asked.original, original)
    texts = calibration(original, asked.samples, asked.sample_tokens)
    for name in asked.names:
        model = AutoModelForCausalLM.from_pretrained(original, dtype=torch.bfloat16)
        data = {"dataset": texts, "num_calibration_samples": len(texts), "shuffle_calibration_samples": False}
        needs_texts = name in ("gptq", "awq")
        oneshot(
            model=model,
            recipe=recipe(name, asked.group_size),
            max_seq_length=asked.sample_tokens,
            **(data if needs_texts else {}),
        )
        model.save_pretrained(asked.out / name, save_compressed=True)
        AutoTokenizer.from_pretrained(original).save_pretrained(asked.out / name)


def recipe(name: str, group_size: int) -> list[Any]:
    """llm-compressor's own for a format; those with groups in the size that is asked for."""
    every = {"targets": ["Linear"], "ignore": ["lm_head"]}
    if name in ("int8", "fp8"):
        return [QuantizationModifier(scheme="W8A8" if name == "int8" else "FP8_DYNAMIC", **every)]
    weights = QuantizationArgs(
        num_bits=4, type="int", symmetric=name == "gptq", strategy="group", group_size=group_size
    )
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    if name == "gptq":
        return [GPTQModifier(config_groups=groups, ignore=["lm_head"])]
    return [AWQModifier(), QuantizationModifier(config_groups=groups, ignore=["lm_head"])]


def calibration(original: Path, samples: int, sample_tokens: int) -> Dataset:
    """The pieces of text that `octavo quantize` calibrates by."""
    tokenizer = load_tokenizer(ModelFiles(original.name, original, None))
    asked = Recipe("gptq", 4, samples=samples, sample_tokens=sample_tokens)
    pieces = read_texts(None, tokenizer, 2**31, asked).calibration
    return Dataset.from_dict({"input_ids": pieces, "attention_mask": [[1] * len(piece) for piece in pieces]})


def unpack(file: Path, out: Path) -> None:
    """The model of a GGUF file in 16 bits."""
    where = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    packed = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    del packed.config.quantization_config
    whole = AutoModelForCausalLM.from_config(packed.config).bfloat16()
    whole.load_state_dict(packed.state_dict())
    whole.save_pretrained(out)
    AutoTokenizer.from_pretrained(**where).save_pretrained(out)


if __name__ == "__main__":
    main()
