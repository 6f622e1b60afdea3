"""Decoder families, a file each. A file here is all that a family is made known by. Free of torch."""

import pkgutil
from importlib import import_module

from octavo_runtime.models.family import Family

FAMILIES: dict[str, Family] = {
    family.architecture: family
    for module in pkgutil.iter_modules(__path__)
    for family in (import_module(f"{__name__}.{module.name}").FAMILY,)
}
