"""spec.observability: what watches the service."""

from pydantic import BaseModel, Field

from octavo_operator.api.rules import STRICT


class ObservabilitySpec(BaseModel):
    model_config = STRICT

    dashboard: bool = Field(
        True, description="Write a Grafana dashboard into a ConfigMap labelled grafana_dashboard. Default true."
    )
