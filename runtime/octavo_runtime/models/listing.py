"""`octavo models`: the architectures that are served. Free of torch."""

import json
from collections.abc import Mapping

from octavo_runtime.models.families import FAMILIES
from octavo_runtime.models.family import Family, Kind

_TITLES = ("architecture", "model_type", "GGUF", "quantised", "kind", "models")
# What may be in fewer bits; latents stay as they are.
_QUANTISED: Mapping[Kind, str | None] = {
    "dense": "weights, cache",
    "experts": "weights, cache",
    "latent": "weights",
    "encoder": None,
}


def run(output: str) -> int:
    """Prints the list; output: table or json."""
    rows = listed()
    if output == "json":
        print(json.dumps(rows, indent=2))
        return 0
    cells = [_TITLES, *(tuple(str(row[name.lower()] or "-") for name in _TITLES) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def listed() -> list[dict[str, object]]:
    """By architecture. gguf: general.architecture of its GGUF files, null where none is read. quantised: what is served
    in fewer bits (docs/quantization.md), null of nothing. kind: see Family. models: what is published in this form.
    text_of_pictures: whether only the text is served of a model that sees pictures."""
    rows = [row for family in FAMILIES.values() for row in _of_family(family)]
    return sorted(rows, key=lambda row: str(row["architecture"]))


def _of_family(family: Family) -> list[dict[str, object]]:
    own: dict[str, object] = {
        "architecture": family.architecture,
        "model_type": family.model_type,
        "gguf": None if family.gguf is None else family.gguf.architecture,
        "quantised": _QUANTISED[family.kind],
        "kind": family.kind,
        "models": family.models,
        "text_of_pictures": False,
    }
    if family.with_pictures is None:
        return [own]
    architecture, model_type = family.with_pictures
    return [own, {**own, "architecture": architecture, "model_type": model_type, "text_of_pictures": True}]
