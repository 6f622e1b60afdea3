"""Lists in the body of a request."""

from typing import Annotated, TypeVar

from pydantic import Field

_Item = TypeVar("_Item")

ListOf = Annotated[list[_Item], Field(fail_fast=True)]
"""A list that is refused at its first bad item: complaints about each of a million would take seconds, in which nobody
else is served, and most of a gigabyte."""
