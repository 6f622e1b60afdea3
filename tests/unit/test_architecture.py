"""The floors that docs/architecture.md draws are those that import-linter holds, and every room is on one."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "octavo_operator": "operator",
    "octavo_runtime": "runtime",
    "octavo_kernels": "kernels",
}


def contract() -> list[set[str]]:
    """The floors from top to ground, each a set of rooms."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [one["layers"] for one in settings["contracts"] if one["type"] == "layers"]
    return [{room(name) for name in floor.split(" | ")} for floor in layers]


def room(module: str) -> str:
    package, *rest = module.split(".")
    return "/".join([FOLDERS[package], *rest])


def test_the_drawing_is_the_contract():
    page = (ROOT / "docs" / "architecture.md").read_text()
    [drawing] = re.findall(r"```floors\n(.*?)```", page, re.S)
    assert [set(line.split()) for line in drawing.splitlines()] == contract()


def test_every_room_of_the_runtime_is_on_a_floor():
    package = ROOT / "runtime" / "octavo_runtime"
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    drawn = {one.removeprefix("runtime/") for floor in contract() for one in floor if one.startswith("runtime/")}
    assert rooms - {"__init__", "__main__"} == drawn
