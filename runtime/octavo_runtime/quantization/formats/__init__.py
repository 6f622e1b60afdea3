"""The formats of quantised checkpoints, a file each: which tensors one stores of a projection, and what matrix they
are."""

from octavo_runtime.quantization.formats import (
    awq,
    bitsandbytes,
    compressed_tensors,
    fp8,
    gptq,
    squeezellm,
)
from octavo_runtime.quantization.scheme import Scheme
from octavo_runtime.quantization.stored_parts import StoredForm


def stored_form(scheme: Scheme) -> StoredForm:
    """How the scheme's format stores projections."""
    match scheme.format:
        case "awq":
            return awq.form(scheme)
        case "gptq" | "gptq_v2":
            return gptq.form(scheme)
        case "fp8":
            return fp8.form(scheme)
        case "bitsandbytes-4bit" | "bitsandbytes-8bit":
            return bitsandbytes.form(scheme)
        case "squeezellm":
            return squeezellm.form(scheme)
        case _:
            return compressed_tensors.form(scheme)
