"""`octavo models`: the architectures that are served. Free of torch."""

import json

from octavo_runtime.models.families import FAMILIES
from octavo_runtime.models.family import Family

_TITLES = ("architecture", "model_type", "GGUF", "kind", "models")


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
    """By architecture. gguf: general.architecture of its GGUF files, null where none is read. kind: see Family.
    models: what is published in this form. text_of_pictures: whether only the text is served of a model that sees
    pictures."""
    rows = [row for family in FAMILIES.values() for row in _of_family(family)]
    return sorted(rows, key=lambda row: str(row["architecture"]))


def _of_family(family: Family) -> list[dict[str, object]]:
    own: dict[str, object] = {
        "architecture": family.architecture,
        "model_type": family.model_type,
        "gguf": None if family.gguf is None else family.gguf.architecture,
        "kind": family.kind,
        "models": family.models,
        "text_of_pictures": False,
    }
    if family.with_pictures is None:
        return [own]
    architecture, model_type = family.with_pictures
    return [own, {**own, "architecture": architecture, "model_type": model_type, "text_of_pictures": True}]
