"""What the builders make of a spec."""

from typing import Any

from octavo_operator import api, resources
from octavo_operator.settings import Settings

SETTINGS = Settings(runtime_image="octavo/runtime:1")


def service(name: str = "chat", **spec: Any) -> api.LLMService:
    metadata = {"namespace": "default", "name": name, "uid": "u1", "generation": 1}
    return api.parse({"metadata": metadata, "spec": {"model": {"uri": "builtin://smollm2"}} | spec})


def built(kind: str, settings: Settings = SETTINGS, **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in resources.build(service(**spec), settings) if item["kind"] == kind)
    return found


def pod(settings: Settings = SETTINGS, **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = built("Deployment", settings, **spec)["spec"]["template"]["spec"]
    return found


def engine(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod(**spec)["containers"][0]
    return found


def kinds(**spec: Any) -> set[str]:
    return {item["kind"] for item in resources.build(service(**spec), SETTINGS)}
