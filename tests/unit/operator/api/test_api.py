"""The LLMService's own rules: defaults, bounds, and refusals that name field, bound and value."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from octavo_operator import api
from octavo_operator.api import engine
from octavo_operator.api.quantities import parse_cpu
from octavo_operator.generate import crd
from octavo_runtime.config.engine import EngineConfig

HERE = Path(__file__).parent
BAD_SPECS = yaml.safe_load((HERE / "bad_specs.yaml").read_text())
SMALLEST = {"model": {"uri": "builtin://smollm2"}}


def llmservice(spec: dict[str, Any], name: str = "chat") -> dict[str, Any]:
    metadata = {"namespace": "default", "name": name, "uid": "u1", "generation": 1}
    return {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": metadata, "spec": spec}


def strict_schema(schema: Any) -> Any:
    """The structural schema as strict field validation sees it: no field but the named ones."""
    if isinstance(schema, list):
        return [strict_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: strict_schema(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict["additionalProperties"] = False
    return strict


@pytest.mark.parametrize("case", BAD_SPECS, ids=lambda case: yaml.safe_dump(case["spec"], default_flow_style=True)[:80])
def test_bad_spec_is_refused_in_words(case: dict[str, Any]) -> None:
    with pytest.raises(api.InvalidSpec) as refusal:
        api.parse(llmservice(case["spec"], case.get("name", "chat")))
    message = str(refusal.value)
    assert [word for word in case["operator"] if word not in message] == [], message
    assert "\n" not in message


def test_smallest_service_has_every_default() -> None:
    service = api.parse(llmservice(SMALLEST))
    assert service.spec.resources.memory == "4Gi"
    assert service.spec.engine.block_size == EngineConfig.model_fields["block_size"].default
    assert service.url == "http://chat.default.svc/v1"


def test_a_name_without_a_scheme_is_the_hubs() -> None:
    model = {"uri": "meta-llama/Llama-2-7b-hf", "tokenSecret": {"name": "hf"}, "cache": {"size": "50Gi"}}
    assert api.parse(llmservice({"model": model})).spec.model.uri == "hf://meta-llama/Llama-2-7b-hf"


def test_url_names_another_port() -> None:
    assert api.parse(llmservice(SMALLEST | {"endpoint": {"port": 8080}})).url == "http://chat.default.svc:8080/v1"


@pytest.mark.parametrize(
    ("port", "url"), [(443, "https://chat.default.svc/v1"), (80, "https://chat.default.svc:80/v1")]
)
def test_url_of_a_certificate_is_https(port: int, url: str) -> None:
    endpoint = {"port": port, "tlsSecret": {"name": "chat-tls"}}
    assert api.parse(llmservice(SMALLEST | {"endpoint": endpoint})).url == url


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ({"ingress": {"host": "chat.example.com"}}, "http://chat.example.com/v1"),
        ({"ingress": {"host": "chat.example.com", "tlsSecret": {"name": "c"}}}, "https://chat.example.com/v1"),
        ({"gateway": {"name": "g", "hostname": "chat.example.com"}}, "https://chat.example.com/v1"),
        ({"gateway": {"name": "g", "hostname": "chat.local", "scheme": "http"}}, "http://chat.local/v1"),
    ],
)
def test_a_route_gives_the_url_and_that_inside_the_cluster_stays(endpoint: dict[str, Any], url: str) -> None:
    service = api.parse(llmservice(SMALLEST | {"endpoint": endpoint}))
    assert (service.url, service.cluster_url) == (url, "http://chat.default.svc/v1")


def test_numbers_are_taken_as_quantities() -> None:
    service = api.parse(llmservice(SMALLEST | {"resources": {"cpu": 2, "memory": 4294967296}}))
    assert (service.spec.resources.cpu, service.spec.resources.memory) == ("2", "4294967296")


@pytest.mark.parametrize(("swap", "flag"), [(0, "0"), ("0", "0"), (2**30, "1073741824"), ("1Mi", "1Mi")])
def test_swap_space_may_be_none_and_a_number_of_bytes(swap: int | str, flag: str) -> None:
    service = api.parse(llmservice(SMALLEST | {"engine": {"swapSpace": swap}}))
    assert engine.said(service.spec.engine)["swapSpace"] == flag


@pytest.mark.parametrize(("text", "cpus"), [("500m", 0.5), ("2", 2.0), ("1.5", 1.5)])
def test_cpu_quantities(text: str, cpus: float) -> None:
    assert parse_cpu(text) == cpus


def test_every_engine_setting_is_in_the_schema_and_no_other() -> None:
    fields = crd.spec_schema()["properties"]["engine"]["properties"]
    elsewhere = {"model", "device", "tensor_parallel_size", "nnodes", "node_rank", "master_addr", "master_port"}
    settings = {field.alias for name, field in EngineConfig.model_fields.items() if name not in elsewhere}
    assert set(fields) == settings | {"extraArgs"}


def test_a_refusal_repeats_no_key() -> None:
    with pytest.raises(api.InvalidSpec) as refusal:
        api.parse(llmservice(SMALLEST | {"engine": {"extraArgs": ["--api-key=sk-3f9c0f6e7a1b4f0d"]}}))
    assert "sk-" not in str(refusal.value)


def test_every_description_says_the_default() -> None:
    def silent(schema: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, field in schema.get("properties", {}).items():
            here = f"{path}.{name}"
            required = name in schema.get("required", [])
            words = "Required" if required else "Default"
            if words.lower() not in field.get("description", "").lower():
                found.append(here)
            if "default" in field and not isinstance(field["default"], dict):
                shown = str(field["default"]).lower()
                found += [] if shown in field["description"].lower() else [f"{here} is {shown}"]
            found += silent(field, here)
        return found

    assert silent(crd.spec_schema(), "spec") == []


def test_defaults_of_schema_and_models_are_the_same() -> None:
    def filled(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        """What the API server stores: defaults from the outside in."""
        result = dict(value)
        for name, field in schema.get("properties", {}).items():
            if name not in result and "default" in field:
                result[name] = field["default"]
            if isinstance(result.get(name), dict):
                result[name] = filled(field, result[name])
        return result

    stored = filled(crd.spec_schema(), SMALLEST)
    assert api.parse(llmservice(stored)).spec == api.parse(llmservice(SMALLEST)).spec


def test_strings_and_lists_are_bounded() -> None:
    """CEL's cost is estimated from the bounds: a field without one would make a rule on it too dear."""

    def unbounded(schema: dict[str, Any], path: str) -> list[str]:
        found = []
        if schema.get("type") == "string" and "maxLength" not in schema and "enum" not in schema:
            found.append(path)
        if schema.get("type") == "array" and "maxItems" not in schema:
            found.append(path)
        if "additionalProperties" in schema:
            found += [] if "maxProperties" in schema else [path]
            found += unbounded(schema["additionalProperties"], f"{path}.*")
        for name, field in schema.get("properties", {}).items():
            found += unbounded(field, f"{path}.{name}")
        return found + (unbounded(schema["items"], f"{path}[]") if "items" in schema else [])

    assert unbounded(crd.spec_schema(), "spec") == []


@pytest.mark.parametrize("path", sorted((HERE.parents[3] / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        jsonschema.validate(document, strict_schema(crd.object_schema()) | {"additionalProperties": True})
        api.parse(llmservice(document["spec"], document["metadata"]["name"]))
