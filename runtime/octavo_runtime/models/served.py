"""A model as it is served: what the configuration makes of its weights. Free of torch."""

from dataclasses import replace

from octavo_runtime.config.engine import EngineConfig, StoredFormat
from octavo_runtime.layers.rope_scaling import LongRope
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.quantization.scheme import Format, Scheme

_AT_LOAD = {
    "fp8": Scheme("float-quantized", 8, "fp8", kept=(r"lm_head$",), at_load=True, rounds_inputs=True),
    "int8": Scheme("int-quantized", 8, kept=(r"lm_head$",), at_load=True),
}
_STORED: dict[Format, StoredFormat] = {
    "awq": "awq",
    "gptq": "gptq",
    "gptq_v2": "gptq",
    "pack-quantized": "compressed-tensors",
    "int-quantized": "compressed-tensors",
    "float-quantized": "compressed-tensors",
    "nvfp4-pack-quantized": "compressed-tensors",
    "fp8": "fbgemm_fp8",
    "bitsandbytes-4bit": "bitsandbytes",
    "bitsandbytes-8bit": "bitsandbytes",
    "squeezellm": "squeezellm",
    "gguf": "gguf",
}


def as_served(spec: ModelSpec, config: EngineConfig) -> ModelSpec:
    """The spec with the weights that config.quantization makes at load, with the products that config.dtype allows, and
    with LongRoPE's numbers for the longest request that is asked for, by default the model's own limit. Raises
    UnsupportedModel where the checkpoint's weights are not what config.quantization names, or cannot become it, and
    where there are no keys and values that a cache could keep in 8."""
    if config.kv_cache_dtype != "auto" and (spec.latent is not None or spec.encoder is not None):
        kept = "latents" if spec.encoder is None else "nothing"
        raise UnsupportedModel(
            f"kv_cache_dtype: must be auto for a model whose cache keeps {kept}, got {config.kv_cache_dtype}"
        )
    if isinstance(spec.rope_scaling, LongRope):
        scaling = spec.rope_scaling.for_requests(config.max_model_len or spec.max_position)
        spec = replace(spec, rope_scaling=scaling)
    scheme = _scheme(spec, config)
    if scheme is not None and scheme.values == "fp8" and config.dtype == "float16":
        scheme = replace(scheme, rounds_inputs=False)  # products of FP8 by FP8 have results in bfloat16 alone
    return replace(spec, quantization=scheme)


def _scheme(spec: ModelSpec, config: EngineConfig) -> Scheme | None:
    """How weights are kept, given how a checkpoint stores them."""
    named, stored = config.quantization, spec.quantization
    has_packed_experts = spec.experts is not None and spec.experts.is_packed
    if named in ("auto", "none") or (stored and named == _STORED[stored.format]):
        return stored
    if named == "mxfp4" and has_packed_experts:
        return stored
    asked = _AT_LOAD.get(named)
    if asked is not None and spec.encoder is None:
        if stored is None:
            return asked
        if (stored.bits, stored.values) == (asked.bits, asked.values):
            return stored  # the checkpoint brings what is asked for
    allowed = "auto, fp8 or int8"
    if spec.encoder is not None:
        allowed, what = "auto", "an encoder"
    elif stored is not None:
        allowed, what = "auto", "a GGUF file" if stored.format == "gguf" else f"a model stored as {stored.format}"
    else:
        what = "a model of experts in MXFP4" if has_packed_experts else "a model stored in 16 or 32 bits"
    raise UnsupportedModel(f"quantization: must be {allowed} for {what}, got {named}; it may be left out")
