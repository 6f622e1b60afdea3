"""Random specs of LLMServices: usual ones, ones whose fields are those of the definition, and ones that no schema
knows."""

from typing import Any

from hypothesis import strategies as st
from random_templates import anything, templates

from octavo_operator.generate.crd import spec_schema

usual_specs = st.fixed_dictionaries(
    {
        "model": st.sampled_from(
            [
                {"uri": "builtin://smollm2"},
                {"uri": "pvc://models/a"},
                {"uri": "hf://a/b", "tokenSecret": {"name": "t"}},
                {"uri": "a/b", "tokenSecret": {"name": "t"}},
                {"uri": "s3://models/a", "credentialsSecret": {"name": "s"}, "endpoint": "http://minio:9000"},
                {"uri": "oci://r.example/a:1", "credentialsSecret": {"name": "s"}, "cache": {"size": "1Gi"}},
            ]
        )
    },
    optional={
        "replicas": st.integers(0, 3),
        "suspend": st.booleans(),
        "engine": st.fixed_dictionaries(
            {}, optional={"maxNumSeqs": st.integers(0, 8), "blockSize": st.just(16), "extraArgs": st.just(["--no-ui"])}
        ),
        "accelerator": st.sampled_from(
            [
                {"type": "cpu"},
                {"type": "nvidia"},
                {"type": "nvidia", "memory": "24Gi"},
                {"type": "nvidia", "memory": "1Gi"},
            ]
        ),
        "resources": st.sampled_from([{"cpu": "0.5", "memory": "1024Mi"}, {"cpu": 2, "memory": "4Gi"}]),
        "autoscaling": st.fixed_dictionaries({"maxReplicas": st.integers(1, 3)}),
        "observability": st.fixed_dictionaries({"dashboard": st.booleans()}),
        "endpoint": st.fixed_dictionaries(
            {"port": st.integers(1, 65535)},
            optional={
                "annotations": st.just({"example.com/a": "b"}),
                "ingress": st.just({"host": "a.example.com", "className": "nginx", "tlsSecret": {"name": "t"}}),
            },
        ),
        "env": st.sampled_from(
            [[{"name": "A", "value": "b"}], [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]]
        ),
        "nodeSelector": st.just({"pool": "llm"}),
        "tolerations": st.just([{"key": "llm", "operator": "Exists", "effect": "NoSchedule"}]),
        "podTemplate": st.just({"spec": {"nodeSelector": {"a": "b"}}}),
    },
)

_WORDS = ["a", "A b", "", "1", "80", "4Gi", "500m", "1Ki", "30s", "2h", "builtin://smollm2", "hf://a/b", "pvc://a/b"]
_NAMES = ["a", "example.com/a", "A b", ""]
_NUMBERS = [0, 1, 2, 80, 8000, 65535, 65536, 2**31, 2**64, -1]
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.sampled_from(_WORDS),
    "integer": st.sampled_from(_NUMBERS),
    "number": st.sampled_from([*_NUMBERS, 0.5, 1e300]),
    "boolean": st.booleans(),
}


def _of_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values for a field of the definition: of its types, mostly within its bounds, now and then of none."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | st.sampled_from(_WORDS)
    if "properties" in schema:
        fields = {name: _of_schema(field) for name, field in schema["properties"].items()}
        needed = {name: fields.pop(name) for name in schema.get("required", [])}
        some = st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True) if fields else st.just([])
        return some.flatmap(lambda chosen: st.fixed_dictionaries(needed | {name: fields[name] for name in chosen}))
    if "additionalProperties" in schema:
        return st.dictionaries(st.sampled_from(_NAMES), _of_schema(schema["additionalProperties"]), max_size=2)
    if schema.get("type") == "array":
        return st.lists(_of_schema(schema["items"]), max_size=3)
    if schema.get("type") in ("integer", "number"):
        bounds = [schema[bound] for bound in ("minimum", "maximum", "default") if bound in schema]
        return st.sampled_from(bounds) | _SCALARS[schema["type"]] if bounds else _SCALARS[schema["type"]]
    return _SCALARS.get(schema.get("type", ""), _SCALARS["string"] | _SCALARS["number"] | anything)


_SCHEMA = spec_schema()
_FIELDS = _SCHEMA["properties"]
_of_definition = _of_schema(
    _SCHEMA | {"properties": {name: field for name, field in _FIELDS.items() if name != "podTemplate"}}
)
_wild = st.dictionaries(st.sampled_from([*_FIELDS, "noSuchField"]), anything, max_size=4)


def _with_template(spec: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.just(spec) | templates.map(lambda template: spec | {"podTemplate": template})


specs = (usual_specs | _of_definition | _wild).flatmap(_with_template)
