"""`python -m octavo_operator.generate [--check]`: write every file that is made from the models, or fail where one of
them is not what the models say."""

import argparse
import json
import sys
from pathlib import Path

import yaml

from octavo_operator import api
from octavo_operator.generate.chart_values import defaults, values_schema, values_yaml
from octavo_operator.generate.crd import custom_resource_definition
from octavo_operator.generate.kubernetes_types import pod_template_types
from octavo_operator.generate.models import models
from octavo_operator.generate.reference import reference
from octavo_operator.generate.rights import rights
from octavo_operator.monitoring.dashboards.board import rendered
from octavo_operator.monitoring.dashboards.fleet import FLEET
from octavo_operator.monitoring.dashboards.service import SERVICE
from octavo_operator.monitoring.rules import rules

_NOTE = "# Made by `make generate`; do not edit.\n"


def generated_files() -> dict[str, str]:
    """Path below the repository's root -> content."""
    definition = custom_resource_definition()
    kept = definition | {
        "metadata": definition["metadata"] | {"annotations": {"helm.sh/resource-policy": "keep"}},
    }
    filled = '{{- include "octavo.filled" . }}'
    guarded = f"{_NOTE}{filled}\n{{{{- if .Values.crds.enabled }}}}\n{_yaml(kept)}{{{{- end }}}}\n"
    return {
        f"crds/{api.PLURAL}.{api.GROUP}.yaml": _NOTE + _yaml(definition),
        "charts/octavo/templates/crds.yaml": guarded,
        "charts/octavo/templates/_rights.tpl": "{{- /* Made by `make generate`; do not edit. */}}\n" + rights(),
        "charts/octavo/monitoring/rules.yaml": _NOTE + _yaml(rules()),
        "charts/octavo/monitoring/fleet.json": rendered(FLEET),
        "charts/octavo/monitoring/service.json": rendered(SERVICE),
        "operator/octavo_operator/resources/dashboard.json": rendered(SERVICE),
        "charts/octavo/values.yaml": _NOTE + values_yaml(),
        "charts/octavo/defaults.json": defaults(),
        "charts/octavo/values.schema.json": json.dumps(values_schema(), indent=2) + "\n",
        "docs/llmservice.md": reference(),
        "docs/models.md": models(),
        "operator/octavo_operator/api/pod_template.json": pod_template_types(),
    }


def _yaml(document: object) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=110)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m octavo_operator.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not up to date")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository (default: this folder)")
    options = parser.parse_args()
    stale = 0
    for name, content in generated_files().items():
        path = options.root / name
        if path.exists() and path.read_text() == content:
            continue
        if options.check:
            print(f"{name} is not what the models say: run `make generate`", file=sys.stderr)
            stale += 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            print(f"wrote {name}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
