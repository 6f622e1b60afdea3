"""spec.nodeSelector and spec.tolerations: which nodes pods may run on."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field
from pydantic import model_validator as validates

from octavo_operator.api.rules import cel, schema, strict

_LABEL_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_LABEL_FORM = "the form of example.com/name"
_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

# The taints by which Kubernetes tells a node's passing state, such as one that is cordoned or does not answer.
_PASSING = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")


def _labels(selector: dict[str, str]) -> dict[str, str]:
    for name in selector:
        if not re.fullmatch(_LABEL_PATTERN, name):
            raise ValueError(f"names must have {_LABEL_FORM}, got {name!r}")
    return selector


_Value = Annotated[str, Field(max_length=63, pattern=_VALUE_PATTERN)]
NodeSelector = Annotated[dict[str, _Value], AfterValidator(_labels)]
NODE_SELECTOR_RULES = schema(
    cel(
        f"self.all(name, name.matches(r'{_LABEL_PATTERN}'))",
        f"'names must have {_LABEL_FORM}, got ' + self.filter(name, !name.matches(r'{_LABEL_PATTERN}'))[0]",
    )
)


class Toleration(BaseModel):
    model_config = strict(
        cel(
            "has(self.key) || self.operator == 'Exists'",
            "'operator must be Exists where there is no key, got ' + self.operator",
            ".operator",
        ),
        cel(
            "!has(self.value) || self.operator == 'Equal'",
            "'value is used by operator Equal only, and operator is ' + self.operator",
            ".value",
        ),
        cel(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "'tolerationSeconds is used by effect NoExecute only, and effect is '"
            " + (has(self.effect) ? self.effect : 'any')",
            ".tolerationSeconds",
        ),
    )

    key: Annotated[str, Field(min_length=1, max_length=317, pattern=_LABEL_PATTERN)] | None = Field(
        None, description="Key of the taint. Default: any."
    )
    operator: Literal["Equal", "Exists"] = Field(
        "Equal", description="Equal: the taint has this value; Exists: any value. Default Equal."
    )
    value: _Value | None = Field(None, description="Value of the taint. Default: the empty one.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint: NoSchedule, PreferNoSchedule or NoExecute. Default: any."
    )
    toleration_seconds: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description="How long a pod stays on a node with a NoExecute taint. Default: for ever.",
    )

    @validates(mode="after")
    def _as_kubernetes_takes_it(self) -> Self:
        if self.key is None and self.operator != "Exists":
            raise ValueError(f"operator must be Exists where there is no key, got {self.operator!r}")
        if self.value is not None and self.operator != "Equal":
            raise ValueError(f"value is used by operator Equal only, got operator {self.operator!r}")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(f"tolerationSeconds is used by effect NoExecute only, got effect {self.effect or 'any'!r}")
        return self


def may_stand(taints: Iterable[Mapping[str, Any]], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a pod with these tolerations may be placed on a node with these taints, once the node is well."""
    lasting = [taint for taint in taints if not str(taint.get("key")).startswith(_PASSING)]
    return all(
        taint.get("effect") == "PreferNoSchedule" or any(_tolerates(each, taint) for each in tolerations)
        for taint in lasting
    )


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint.get("key")):
        return False
    return toleration.get("operator") == "Exists" or (toleration.get("value") or "") == (taint.get("value") or "")
