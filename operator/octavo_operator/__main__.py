"""`python -m octavo_operator`: run the operator until it is told to end."""

import logging
import sys

import kopf
from pydantic import ValidationError

from octavo_operator import metrics_endpoint
from octavo_operator.handlers import registry
from octavo_operator.settings import Settings
from octavo_runtime.config import explain


def main() -> int:
    try:
        settings = Settings()
    except ValidationError as error:
        print(f"octavo: environment (OCTAVO_...): {explain(error)}", file=sys.stderr)
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("kopf", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(max(logging.getLogger().level, logging.WARNING))
    try:
        metrics_endpoint.serve(settings.metrics_port)
    except OSError as error:
        print(f"octavo: cannot listen on port {settings.metrics_port}: {error.strerror}", file=sys.stderr)
        return 1
    kopf.run(
        registry=registry(settings),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
