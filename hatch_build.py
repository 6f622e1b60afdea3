"""Puts the CPU's loops, compiled for each kind of CPU, into the wheel. A source tree compiles its own when they are
first called, so an editable install needs nothing."""

import runpy
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledLoops(BuildHookInterface):  # type: ignore[type-arg, misc] # hatchling is not installed beside the code
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        folder = Path(self.root, "kernels", "octavo_kernels", "native")
        loops = runpy.run_path(str(folder / "compilation.py"))  # the package itself imports torch
        self._built = tempfile.TemporaryDirectory()
        for level in loops["LEVELS"]:
            library = Path(self._built.name, f"{level}.so")
            loops["build"](level, library)
            build_data["force_include"][str(library)] = f"octavo_kernels/native/{library.name}"
        build_data["pure_python"] = False
        # Any Python of this platform can load them.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, *_: object) -> None:
        if version != "editable":
            self._built.cleanup()
