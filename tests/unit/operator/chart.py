"""The chart, and Helm."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[3] / "charts" / "octavo"
FOLDERS = [os.environ.get("OCTAVO_BIN", ""), str(Path.home() / ".cache/octavo/bin"), os.environ["PATH"]]
HELM = shutil.which("helm", path=os.pathsep.join(FOLDERS))


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(HELM), *arguments], capture_output=True, text=True)


def rendered(*settings: str, knows: Sequence[str] = (), chart: Path = CHART) -> list[dict[str, Any]]:
    """`knows`: kinds that the API server has beside Kubernetes' own."""
    flags = [word for setting in settings for word in ("--set", setting)]
    flags += [word for kind in knows for word in ("--api-versions", kind)]
    done = helm("template", "octavo", str(chart), "--namespace=octavo-system", *flags)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]
