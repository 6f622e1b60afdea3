"""The operator stays small: it loads nothing that only the pods need. The commands run beside kubectl, not in it."""

import subprocess
import sys
from pathlib import Path

PODS_ONLY = ("torch", "transformers", "numpy", "fastapi", "uvicorn", "zmq", "msgspec", "typer")
OPERATOR = Path(__file__).parents[3] / "operator" / "octavo_operator"


def test_no_module_of_the_operator_loads_what_pods_need() -> None:
    files = [path.relative_to(OPERATOR.parent).with_suffix("") for path in OPERATOR.rglob("*.py")]
    modules = sorted(".".join(path.parts).removesuffix(".__init__") for path in files if "commands" not in path.parts)
    assert "octavo_operator.control.handlers" in modules
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {PODS_ONLY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
