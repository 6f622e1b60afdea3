"""The CustomResourceDefinition of the LLMService, made from the models of api."""

from typing import Any

from octavo_operator import api
from octavo_operator.api.model import ENDPOINT_PATTERN
from octavo_operator.api.model_cache import CLAIM_PATTERN
from octavo_operator.api.quantities import CPU_PATTERN, MEMORY_PATTERN
from octavo_operator.api.slo import PERCENTAGE_PATTERN
from octavo_runtime.config.units import DURATION_PATTERN, QUANTITY_PATTERN

# What people write, instead of a regular expression; int-or-string where Kubernetes itself takes `cpu: 4`.
_PATTERNS: dict[str, tuple[bool, str]] = {
    DURATION_PATTERN: (False, "a duration such as 500ms, 300s or 5m"),
    QUANTITY_PATTERN: (True, "a quantity of bytes such as 512Mi or 2Gi"),
    MEMORY_PATTERN: (True, "a quantity of bytes such as 512Mi or 2Gi"),
    PERCENTAGE_PATTERN: (False, "a percentage from 10% to 99.999%, such as 99.9%"),
    api.WORD_PATTERN: (False, "one word, without spaces"),
    ENDPOINT_PATTERN: (False, "a URL such as http://minio.storage:9000"),
    CLAIM_PATTERN: (False, "the name of a claim: lower-case letters, digits, dashes and dots"),
}
_MAX_PATTERN_LENGTH = 20
_MAX_EXACT = 2**53  # the API server compares bounds as doubles; int64 bounds the rest
_KEEP = (
    "type", "description", "default", "enum", "format", "pattern",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "maxProperties",
)  # fmt: skip

_COLUMNS = [
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Reason", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].reason'},
    # As kubectl shows a Deployment: pods that answer, of those wanted.
    {"name": "Replicas", "type": "string", "jsonPath": ".status.readiness"},
    {"name": "URL", "type": "string", "jsonPath": ".status.url"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    # With `-o wide`: what is served, and why it is as it is.
    {"name": "Model", "type": "string", "jsonPath": ".spec.model.uri", "priority": 1},
    {
        "name": "Message",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
        "priority": 1,
    },
]


def custom_resource_definition() -> dict[str, Any]:
    """The whole CRD as plain data: structural schema with defaults, CEL rules, printer columns, subresources."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{api.PLURAL}.{api.GROUP}"},
        "spec": {
            "group": api.GROUP,
            "names": {
                "kind": api.KIND,
                "listKind": f"{api.KIND}List",
                "plural": api.PLURAL,
                "singular": "llmservice",
                "shortNames": ["llm"],
                "categories": ["octavo"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": api.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": object_schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": _COLUMNS,
                }
            ],
        },
    }


def object_schema() -> dict[str, Any]:
    """Schema of a whole LLMService object."""
    return {
        "type": "object",
        "description": "A large language model behind an OpenAI-compatible endpoint.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec_schema(),
            "status": _model_schema(api.LLMServiceStatus)
            # Tools that wait then see that nothing has been looked at, and not a status that is missing.
            | {"description": "What the operator observed.", "default": {"observedGeneration": -1}},
        },
        "x-kubernetes-validations": [
            {
                "rule": f"self.metadata.name.size() <= {api.MAX_NAME} && "
                f"self.metadata.name.matches('{api.NAME_PATTERN}')",
                "messageExpression": f"'metadata.name must be at most {api.MAX_NAME} lower-case letters, digits and "
                "dashes and start with a letter, got ' + self.metadata.name",
            }
        ],
    }


def spec_schema() -> dict[str, Any]:
    """Structural schema of `spec`."""
    return _model_schema(api.LLMServiceSpec) | {"description": "What to serve, and how."}


def _model_schema(model: Any) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}))


def _structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """JSON schema as pydantic writes it -> structural schema: references inlined, null alternatives gone."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]] | {k: v for k, v in schema.items() if k != "$ref"}
    if "anyOf" in schema:
        (variant,) = [variant for variant in schema["anyOf"] if variant != {"type": "null"}]
        outer = {k: v for k, v in schema.items() if k not in ("anyOf", "default")}
        return _structural(variant | outer, definitions)

    result = {key: schema[key] for key in _KEEP if key in schema}
    if "const" in schema:
        result["enum"] = [schema["const"]]  # a structural schema has no const
    result |= {key: value for key, value in schema.items() if key.startswith("x-kubernetes-")}
    if result.get("maximum", 0) > _MAX_EXACT:
        del result["maximum"]
        result["format"] = "int64"
    if result.get("pattern") == CPU_PATTERN:
        # A schema cannot say "text or number, 1.5 among them" as Kubernetes takes it in a pod: the operator checks.
        result = {"x-kubernetes-preserve-unknown-fields": True} | {
            key: value for key, value in result.items() if key not in ("type", "pattern")
        }
    if result.get("pattern") in _PATTERNS:
        result = _worded_pattern(result)
    if schema.get("type") == "array":
        result["items"] = _structural(schema["items"], definitions)
        result.setdefault("maxItems", 64)
    if "properties" in schema:
        required = schema.get("required", [])
        result["properties"] = {
            name: _property(value, definitions, optional=name not in required)
            for name, value in schema["properties"].items()
        }
        if required:
            result["required"] = [*required]  # a list of its own: YAML would refer to one that stands twice
    elif isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(schema["additionalProperties"], definitions)
    elif schema.get("type") == "object":
        result["x-kubernetes-preserve-unknown-fields"] = True
    return result


def _property(schema: dict[str, Any], definitions: dict[str, Any], *, optional: bool) -> dict[str, Any]:
    result = _structural(schema, definitions)
    nullable = any(variant == {"type": "null"} for variant in schema.get("anyOf", []))
    if optional and not nullable and result.get("type") == "object" and "properties" in result:
        result["default"] = {}  # the API server then fills in the defaults below it
    return result


def _worded_pattern(schema: dict[str, Any]) -> dict[str, Any]:
    """The same bound as a CEL rule, whose message a person understands."""
    pattern = schema["pattern"]
    takes_integers, words = _PATTERNS[pattern]
    words = words.replace("%", "%%")  # of a format
    rule = f"self.matches(r'{pattern}')"
    result = {"maxLength": _MAX_PATTERN_LENGTH} | {key: value for key, value in schema.items() if key != "pattern"}
    if takes_integers:
        del result["type"]
        result["x-kubernetes-int-or-string"] = True
        if pattern == MEMORY_PATTERN:
            rule = f"type(self) == int ? self > 0 : ({rule} && self.matches('[1-9]'))"
        else:  # of what may be none
            rule = f"type(self) == int ? self >= 0 : {rule}"
    worded = {"rule": rule, "messageExpression": f"'must be {words}, got %s'.format([self])"}
    return result | {"x-kubernetes-validations": [worded, *schema.get("x-kubernetes-validations", [])]}
