"""spec.observability: what watches the service."""

from pydantic import BaseModel, Field

from octavo_operator.api.rules import STRICT


class ObservabilitySpec(BaseModel):
    model_config = STRICT

    dashboard: bool = Field(
        False,
        description="Write a dashboard of this service alone into a ConfigMap labelled grafana_dashboard, for a "
        "Grafana that reads this namespace alone. The chart's own dashboards show every service. Default false.",
    )
