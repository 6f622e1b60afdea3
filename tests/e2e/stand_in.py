"""A cheap stand-in for the engine: an LLMService whose pods answer every GET at once, in a few MiB."""

from typing import Any

from kube import Object

_SERVER = """\
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.end_headers()
HTTPServer(("", 8000), Answers).serve_forever()
"""


def engine(*, status: int = 200, **container: Any) -> Object:
    """The engine's container of a pod template; it answers with this HTTP status."""
    return {"name": "engine", "command": ["python3", "-c", _SERVER.format(status=status)]} | container


def stand_in(name: str, template: Object | None = None, **spec: Any) -> Object:
    """An LLMService document; `template`: the spec of its podTemplate beside the engine's container."""
    small = {
        "model": {"uri": "builtin://smollm2"},
        "resources": {"cpu": "10m", "memory": "128Mi"},
        "rollout": {"drain": "1s"},
        "podTemplate": {"spec": {"containers": [engine()]} | (template or {})},
    }
    return {
        "apiVersion": "serving.octavo.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name},
        "spec": small | spec,
    }
