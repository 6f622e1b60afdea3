"""The LLMService (serving.octavo.dev/v1alpha1): the one source of its schema, its defaults and its validation.

Every rule stands here twice, side by side: as CEL, so that `kubectl apply` refuses a bad spec, and as a validator, so
that a spec stored under an older schema is refused by the operator in the same words.
"""

from octavo_operator.api.autoscaling import AutoscalingSpec
from octavo_operator.api.definition import API_VERSION, GROUP, KIND, MAX_NAME, NAME_PATTERN, PLURAL, VERSION
from octavo_operator.api.model import WORD_PATTERN
from octavo_operator.api.service import InvalidSpec, Key, LLMService, parse
from octavo_operator.api.spec import LLMServiceSpec
from octavo_operator.api.status import LLMServiceStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "MAX_NAME",
    "NAME_PATTERN",
    "PLURAL",
    "VERSION",
    "WORD_PATTERN",
    "AutoscalingSpec",
    "InvalidSpec",
    "Key",
    "LLMService",
    "LLMServiceSpec",
    "LLMServiceStatus",
    "parse",
]
