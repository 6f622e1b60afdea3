"""quantization_config of a config.json, or quantize_config.json beside it, to a Scheme. Free of torch.

What changes nothing in how weights are read (how they were made, whose kernels should compute) is passed over; what
would, and is not known, is refused by name."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from octavo_runtime.quantization.scheme import Scheme, UnsupportedQuantization

Config = Mapping[str, Any]
_HEAD = r"lm_head$"


def scheme_of(config: Config) -> Scheme:
    """Raises UnsupportedQuantization, which names field, bound and value."""
    method = config.get("quant_method", "gptq" if "bits" in config and "desc_act" in config else None)
    if method == "bitsandbytes" or (method is None and "load_in_4bit" in config):
        return _bitsandbytes(config)
    read = _METHODS.get(method) if isinstance(method, str) else None
    if read is None:
        raise _must_be("quant_method", f"one of {', '.join([*_METHODS, 'bitsandbytes', 'mxfp4 (gpt-oss)'])}", method)
    return read(config)


def _awq(config: Config) -> Scheme:
    _check(config, "bits", (4,), other="w_bit")
    _check(config, "zero_point", (True, False, None))
    layout = str(config.get("version", "gemm")).lower()
    if layout != "gemm":
        raise _must_be("version", "gemm, whose order of weights is read", layout)
    kept = _parts(config, "modules_to_not_convert")
    return Scheme("awq", 4, group=(1, _group_size(config, "q_group_size")), has_zeros=True, kept=(*kept, _HEAD))


def _gptq(config: Config) -> Scheme:
    bits = _check(config, "bits", (4, 8))
    layout = config.get("checkpoint_format") or config.get("format") or "gptq"
    if layout not in ("gptq", "gptq_v2"):
        raise _must_be("checkpoint_format", "gptq or gptq_v2", layout)
    dynamic = config.get("dynamic") or {}
    if not isinstance(dynamic, dict):
        raise _must_be("dynamic", "an object", dynamic)
    overridden = [name for name in dynamic if not name.startswith("-:")]
    if overridden:
        raise _must_be("dynamic", "of modules that are left out (-:) alone", overridden[0])
    kept = [_pattern(name[2:], "dynamic") for name in dynamic]
    if not config.get("lm_head"):
        kept.append(_HEAD)
    return Scheme(
        "gptq_v2" if layout == "gptq_v2" else "gptq",
        bits,
        group=(1, _group_size(config)),
        has_zeros=bits == 4 or not config.get("sym", True),
        has_order=bool(config.get("desc_act", False)),
        kept=tuple(kept),
    )


def _squeezellm(config: Config) -> Scheme:
    _check(config, "bits", (4,), other="wbits")
    return Scheme("squeezellm", 4, "codes", kept=(_HEAD,))


def _fp8(config: Config) -> Scheme:
    """As DeepSeek and Qwen ship it, in blocks, and transformers' of whole tensors."""
    _check(config, "fmt", ("e4m3", "float8_e4m3fn", None))
    blocks = config.get("weight_block_size")
    if blocks is not None and not _are_sizes(blocks):
        raise _must_be("weight_block_size", "two sizes such as [128, 128]", blocks)
    kept = _parts(config, "modules_to_not_convert") or _parts(config, "ignored_layers")
    group = (blocks[0], blocks[1]) if blocks else (1, 0)
    rounds = config.get("activation_scheme") in ("dynamic", "static")
    return Scheme("fp8", 8, "fp8", group, kept=(*kept, _HEAD), rounds_inputs=rounds)


def _fbgemm_fp8(config: Config) -> Scheme:
    return Scheme("fp8", 8, "fp8", kept=(*_parts(config, "modules_to_not_convert"), _HEAD), rounds_inputs=True)


def _bitsandbytes(config: Config) -> Scheme:
    kept = (*(_parts(config, "llm_int8_skip_modules") or ()), _HEAD)
    if config.get("load_in_8bit", config.get("_load_in_8bit")):
        return Scheme("bitsandbytes-8bit", 8, kept=kept)
    if not config.get("load_in_4bit", config.get("_load_in_4bit")):
        raise _must_be("load_in_4bit", "true, or load_in_8bit", config.get("load_in_4bit"))
    _check(config, "bnb_4bit_quant_type", ("nf4", "fp4"))
    _check(config, "bnb_4bit_quant_storage", ("uint8", None))
    return Scheme("bitsandbytes-4bit", 4, "codes", (1, 64), kept=kept)


def _compressed_tensors(config: Config) -> Scheme:
    sparsity = config.get("sparsity_config") or {}
    if not isinstance(sparsity, dict):
        raise _must_be("sparsity_config", "an object", sparsity)
    if sparsity.get("format", "dense") != "dense":
        raise _must_be("sparsity_config.format", "dense", sparsity.get("format"))
    if config.get("transform_config"):
        raise _must_be("transform_config", "unset", config["transform_config"])
    groups = config.get("config_groups")
    if not isinstance(groups, dict) or not groups or not all(isinstance(group, dict) for group in groups.values()):
        raise _must_be("config_groups", "an object of groups", groups)
    first, *others = groups.values()
    if any(other.get("weights") != first.get("weights") for other in others):
        raise _must_be("config_groups", "of one kind of weights", ", ".join(groups))
    targets = [target for group in groups.values() for target in _module_patterns(group, "targets")]
    kept = _module_patterns(config, "ignore")
    if _module_pattern("Linear", "targets") not in targets:
        kept.append(rf"^(?!{'|'.join(targets)})")
    layout = first.get("format") or config.get("format")
    weights = first.get("weights")
    if not isinstance(weights, dict):
        raise _must_be("weights", "an object", weights)
    return replace(
        _compressed(layout, weights, tuple(kept)),
        rounds_inputs=all(_rounds_inputs(weights, group.get("input_activations")) for group in groups.values()),
        cache_type=_cache_type(config.get("kv_cache_scheme")),
    )


def _cache_type(cache: object) -> str:
    """Scheme.cache_type. Nothing is refused: who asks for no cache of 8 bits reads no such scales."""
    if not cache:
        return "fp8"
    if isinstance(cache, dict) and (cache.get("num_bits"), cache.get("symmetric", True)) == (8, True):
        match cache.get("type", "int"):
            case "float":
                return "fp8"
            case "int":
                return "int8"
    return f"{cache!r:.100}"


def _rounds_inputs(weights: Config, inputs: object) -> bool:
    """Whether inputs are meant to be rounded as weights of 8 bits are: symmetrically, whether each token has a scale
    or all have one."""
    if not isinstance(inputs, dict):
        return False
    kinds = [(each.get("type", "int"), each.get("num_bits"), each.get("symmetric", True)) for each in (weights, inputs)]
    return kinds[0] == kinds[1] and kinds[0][1:] == (8, True)


def _compressed(layout: object, weights: Config, kept: tuple[str, ...]) -> Scheme:
    strategy, bits = weights.get("strategy"), weights.get("num_bits")
    if not isinstance(bits, int):
        raise _must_be("num_bits", "4 or 8", bits)
    kind, symmetric = weights.get("type", "int"), bool(weights.get("symmetric", True))
    group = weights.get("group_size") or 0
    if strategy == "block":
        blocks = weights.get("block_structure")
        if not _are_sizes(blocks):
            raise _must_be("block_structure", "two sizes such as [128, 128]", blocks)
    elif strategy not in ("tensor", "channel", "group", "tensor_group"):
        raise _must_be("strategy", "tensor, channel, group, tensor_group or block", strategy)
    elif strategy in ("group", "tensor_group") and (not isinstance(group, int) or group < 1):
        raise _must_be("group_size", "at least 1", group)
    columns = group if strategy in ("group", "tensor_group") else 0
    match layout, kind, bits:
        case "pack-quantized", "int", 4 | 8:
            zeros = bits == 4 or not symmetric
            order = weights.get("actorder") in ("group", "dynamic", True)  # three names of one
            return Scheme("pack-quantized", bits, group=(1, columns), has_zeros=zeros, has_order=order, kept=kept)
        case (("int-quantized" | "naive-quantized"), "int", 8) if symmetric:
            return Scheme("int-quantized", 8, group=(1, columns), kept=kept)
        case (("float-quantized" | "naive-quantized"), "float", 8):
            high, wide = weights["block_structure"] if strategy == "block" else (1, columns)
            return Scheme("float-quantized", 8, "fp8", (high, wide), kept=kept)
        case "nvfp4-pack-quantized", "float", 4:
            return Scheme("nvfp4-pack-quantized", 4, "codes", (1, columns or 16), kept=kept)
    known = "pack-quantized (int 4, 8), int-quantized (int 8, symmetric), float-quantized (float 8), "
    found = f"{layout} ({kind} {bits}{'' if symmetric else ', asymmetric'})"
    raise _must_be("format", f"one of {known}nvfp4-pack-quantized (float 4)", found)


_METHODS = {
    "awq": _awq,
    "gptq": _gptq,
    "compressed-tensors": _compressed_tensors,
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm_fp8,
    "squeezellm": _squeezellm,
}


def _check(config: Config, name: str, allowed: tuple[Any, ...], other: str = "") -> Any:
    """The value of a field, or of its older name."""
    value = config.get(name, config.get(other))
    if (type(value), value) not in [(type(each), each) for each in allowed]:  # 4.0 is 4, and no number of bits
        raise _must_be(name, " or ".join(str(each) for each in allowed if each is not None), value)
    return value


def _group_size(config: Config, other: str = "") -> int:
    """0: all columns."""
    size = config.get("group_size", config.get(other))
    if not isinstance(size, int) or isinstance(size, bool) or size < -1 or size == 0:
        raise _must_be("group_size", "-1 or at least 1", size)
    return max(size, 0)


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, int) and each > 0 for each in value)


def _parts(config: Config, name: str) -> tuple[str, ...]:
    """Patterns of the modules whose names hold one of a list's words."""
    words = config.get(name) or ()
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise _must_be(name, "a list of modules", words)
    return tuple(rf"(^|\.){re.escape(word)}(\.|$)" for word in words)


def _module_patterns(config: Config, field: str) -> list[str]:
    """Patterns of the modules in one of compressed-tensors' lists."""
    names = config.get(field) or []
    if not isinstance(names, list):
        raise _must_be(field, "a list of modules", names)
    return [_module_pattern(name, field) for name in names]


def _module_pattern(name: object, field: str) -> str:
    """Of compressed-tensors' names: modules, or regular expressions behind re:."""
    if not isinstance(name, str):
        raise _must_be(field, "a list of modules", name)
    if name.startswith("re:"):
        return f"^(?:{_pattern(name[3:], field)})"
    return f"^{re.escape(name)}$"


def _pattern(text: str, field: str) -> str:
    try:
        re.compile(text)
    except re.error:
        raise _must_be(field, "of regular expressions", text) from None
    return text


def _must_be(name: str, bound: str, value: object) -> UnsupportedQuantization:
    return UnsupportedQuantization(f"quantization_config.{name} must be {bound}, got {value!r:.100}")
