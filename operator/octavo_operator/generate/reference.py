"""docs/llmservice.md: every field of an LLMService, made from its schema."""

from typing import Any

from pydantic.alias_generators import to_camel

from octavo_operator.generate.crd import object_schema, spec_schema
from octavo_runtime.config.presets import PRESETS

_INTRODUCTION = """\
# LLMService

Made from the schema by `make generate`. `kubectl explain llmservice.spec --recursive` shows the same in the terminal.

The smallest service names a model:

```yaml
apiVersion: serving.octavo.dev/v1alpha1
kind: LLMService
metadata:
  name: chat
spec:
  model:
    uri: builtin://smollm2
```

`kubectl get llmservice` shows whether it is ready and why not; `kubectl describe llmservice chat` says what to do.
"""
_PRESETS = """\
What `spec.engine.preset` (on the command line `--preset`) sets. A field that you set yourself wins. \
What changes answers or takes more GPUs is left to you: [quantization.md](quantization.md), [parallel.md](parallel.md).

| preset | for | sets | why | goes well with |
|---|---|---|---|---|
"""
_HEADER = "| field | type | bounds | meaning |\n|---|---|---|---|\n"


def reference() -> str:
    """The whole page."""
    status = object_schema()["properties"]["status"]
    return (
        f"{_INTRODUCTION}\n## spec\n\n{_HEADER}{_rows(spec_schema(), 'spec')}"
        f"\n## status\n\n{_HEADER}{_rows(status, 'status')}"
        f"\n## Presets\n\n{_PRESETS}{_preset_rows()}"
    )


def _rows(schema: dict[str, Any], path: str) -> str:
    rows = ""
    for name, field in schema["properties"].items():
        here = f"{path}.{name}"
        description = field.get("description", "").replace("|", "\\|")
        rows += f"| `{here}` | {_type(field)} | {_bounds(field)} | {description} |\n"
        if "properties" in field:
            rows += _rows(field, here)
        elif "properties" in field.get("items", {}):
            rows += _rows(field["items"], f"{here}[]")
    return rows


def _preset_rows() -> str:
    rows = ""
    for name, preset in PRESETS.items():
        first, last = f"`{name}` | {preset.purpose}", preset.beside
        for field, (value, why) in preset.settings.items():
            rows += f"| {first} | `{to_camel(field)}: {value}` | {why} | {last} |\n"
            first, last = " | ", ""
    return rows


def _type(field: dict[str, Any]) -> str:
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field.get("type", "quantity"))


def _bounds(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(str(value) for value in field["enum"])
    least, most = field.get("minimum"), field.get("maximum")
    if least is not None and most is not None:
        return f"{least} to {most}"
    if least is not None:
        return f"at least {least}"
    if "maxItems" in field:
        return f"at most {field['maxItems']} items"
    return ""
