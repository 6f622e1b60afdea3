"""References to Secrets in the service's namespace."""

from pydantic import BaseModel, Field

from octavo_operator.api.rules import STRICT


class SecretKey(BaseModel):
    model_config = STRICT

    name: str = Field(
        min_length=1, max_length=253, description="Name of a Secret in the service's namespace. Required."
    )
    key: str = Field("token", min_length=1, max_length=253, description="Key in the Secret. Default token.")


class SecretName(BaseModel):
    model_config = STRICT

    name: str = Field(
        min_length=1, max_length=253, description="Name of a Secret in the service's namespace. Required."
    )
