"""A service whose model is looked for: what the reading of it, its download and its sizing go by."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.settings import Settings

Object = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """
    Attributes:
        body: the service as it is stored.
        template: of its pods.
        wanted: whether there are to be any.
        now: when it is looked at.
    """

    service: LLMService
    body: Object
    settings: Settings
    template: Object
    wanted: bool
    now: datetime

    @property
    def known(self) -> Object:
        """What its status says of the model, of whatever source; empty where it says nothing."""
        found: Object = self.body.get("status", {}).get("model", {})
        return found
