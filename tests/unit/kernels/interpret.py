"""Program: the errors of every Triton kernel on its tiny cases, as JSON. Needs TRITON_INTERPRET=1."""

import json
from functools import partial
from importlib import import_module

import torch

import octavo_kernels
from octavo_kernels.gpu import Gpu
from octavo_kernels.latent_decode import cases as latent_decode_cases
from octavo_kernels.paged_decode import cases as paged_decode_cases
from octavo_kernels.paged_decode import hopper
from octavo_kernels.peer_sum import cases as peer_sum_cases

DTYPES = (torch.float32, torch.float16)  # the interpreter's bfloat16 is wrong

errors = {}
for op in octavo_kernels.__all__:
    form = getattr(import_module(f"octavo_kernels.{op}.triton"), op)
    cases = import_module(f"octavo_kernels.{op}.cases")
    padded = latent_decode_cases.PADDED_CASES if op == "latent_decode" else ()
    for case in (*cases.TINY_CASES, *padded):
        for dtype in DTYPES:
            errors[f"{op}/{case.name}/{dtype}"] = cases.error(form, case, dtype, "cpu")

for peer_case in peer_sum_cases.TINY_CASES:
    errors[f"peer_sum/{peer_case.name}"] = peer_sum_cases.error(peer_case, torch.float16, "cpu")

# With so few workers each takes several units, and pairs are cut.
hopper.gpu = lambda device: Gpu(processors=3, shared_memory=232_448)
form = partial(hopper.paged_decode, dependent=False)
for case in (*paged_decode_cases.TINY_CASES, *paged_decode_cases.PADDED_CASES, *paged_decode_cases.COMMON_CASES):
    if case.suits_hopper:
        errors[f"paged_decode/hopper/{case.name}"] = paged_decode_cases.error(form, case, torch.float16, "cpu")
print(json.dumps(errors))
