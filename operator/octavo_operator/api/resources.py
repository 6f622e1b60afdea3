"""spec.resources: what each replica needs of its node."""

from pydantic import BaseModel, Field

from octavo_operator.api.quantities import MIN_MEMORY, Cpu, PodMemory
from octavo_operator.api.rules import STRICT, cel, schema


class ResourcesSpec(BaseModel):
    model_config = STRICT

    cpu: Cpu = Field(
        "1",
        description="CPUs that a replica is promised, such as 500m or 4; it may use more where the node has idle ones. "
        "Default 1.",
    )
    memory: PodMemory = Field(
        "4Gi",
        description="Memory that a replica is promised and may use at most. Default 4Gi.",
        json_schema_extra=schema(
            cel(
                f"!isQuantity(string(self)) || !quantity(string(self)).isLessThan(quantity('{MIN_MEMORY}'))",
                f"'must be at least {MIN_MEMORY}, with its unit, got %s'.format([self])",
            )
        ),
    )
