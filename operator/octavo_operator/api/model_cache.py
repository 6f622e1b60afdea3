"""spec.model.cache: a volume that models are downloaded to once."""

from typing import Literal, Self

from pydantic import BaseModel, Field
from pydantic import model_validator as validates

from octavo_operator.api.quantities import Memory
from octavo_operator.api.rules import cel, strict

CLAIM_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class ModelCache(BaseModel):
    model_config = strict(
        cel(
            "has(self.claimName) != has(self.size)",
            "'set one of claimName and size: claimName is a claim that is there, size of one that is made'",
        ),
        cel(
            "!has(self.claimName) || !(has(self.storageClassName) || has(self.accessMode))",
            "'storageClassName and accessMode are of a claim that is made, and claimName is ' + self.claimName",
            ".claimName",
        ),
    )

    claim_name: str | None = Field(
        None,
        pattern=CLAIM_PATTERN,
        max_length=253,
        description="A PersistentVolumeClaim in the service's namespace; services that name it share what is in it. "
        "Default: one is made, named as the service with -model-cache behind it, and goes with the service.",
    )
    size: Memory | None = Field(
        None,
        description="Size of the claim that is made, such as 50Gi; it may grow later. Default: none, and claimName is "
        "required.",
    )
    storage_class_name: str | None = Field(
        None, max_length=253, description="Storage class of the claim that is made. Default: the cluster's default one."
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] | None = Field(
        None,
        description="Access mode of the claim that is made: ReadWriteOnce, for pods of one node, or ReadWriteMany, "
        "where the storage class has it. Default ReadWriteOnce.",
    )

    @validates(mode="after")
    def _one_claim(self) -> Self:
        if (self.claim_name is None) == (self.size is None):
            raise ValueError(f"set one of claimName and size, got claimName {self.claim_name!r} and size {self.size!r}")
        if self.claim_name is not None and (self.storage_class_name is not None or self.access_mode is not None):
            said = f"storageClassName {self.storage_class_name!r} and accessMode {self.access_mode!r}"
            raise ValueError(f"claimName {self.claim_name!r} is a claim that is there; of one that is made are {said}")
        return self
