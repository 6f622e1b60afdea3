"""What the operator refuses of a service without asking anybody: by the reconciler and, where it is on, the webhook."""

from octavo_operator.api import InvalidSpec, LLMService
from octavo_operator.resources import pod_template, scaled_object
from octavo_operator.settings import Settings


def check(service: LLMService, settings: Settings) -> None:
    """Raises InvalidSpec where a spec that holds to the schema cannot be carried out by this installation."""
    autoscaling = service.spec.autoscaling
    if autoscaling is not None and scaled_object.lacks_prometheus(autoscaling, settings.prometheus_url):
        said = "spec.autoscaling.provider: must be builtin or prometheus-adapter for these targets, got keda"
        why = "it reads them from a Prometheus, and the operator knows none (prometheus.url in the chart's values)"
        raise InvalidSpec(f"{said}: {why}")
    pod_template.build(service, settings)
