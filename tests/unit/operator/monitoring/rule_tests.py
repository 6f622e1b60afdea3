"""Unit tests of the rules, as promtool runs them."""

import subprocess
from pathlib import Path
from typing import Any

import yaml
from prometheus import program

from octavo_operator.monitoring.rules import rules

SERVICE = 'namespace="default",llmservice="chat"'
POD = f'{SERVICE},pod="chat-1-a"'
STEP = "30s"  # between two scrapes, and two looks at the rules


def promtool(folder: Path, *tests: dict[str, Any], step: str = STEP) -> None:
    """Run unit tests of the rules."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules()))
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": step, "tests": list(tests)}
    (folder / "tests.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run([program("promtool"), "test", "rules", folder / "tests.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def given(series: dict[str, str], step: str = STEP) -> dict[str, Any]:
    """The series of a test, each in promtool's notation."""
    return {"interval": step, "input_series": [{"series": name, "values": text} for name, text in series.items()]}
