"""llama.cpp's own server as a peer: built once from the source that llama-cpp-python carries."""

import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from octavo_runtime.config.options import BadOption

VERSION = "0.3.36"  # of llama-cpp-python
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    # GCC 12's header for AMX hides from the compiler that the tile configuration is read: its stores are removed as
    # dead, and the server ends at its first product.
    "-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse",
)
_UP_TO_AVX2 = ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C")
_INSTRUCTIONS = {
    "native": ("-DGGML_NATIVE=ON",),
    "avx2": ("-DGGML_NATIVE=OFF", *(f"-DGGML_{name}=ON" for name in _UP_TO_AVX2)),
}


def server_binary(isa: str) -> Path:
    """Where the built server lies, whether it exists or not: keyed by version and instructions, under the user's
    cache. isa: native, all that this machine has, or avx2."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "octavo" / f"llama-cpp-{VERSION}" / ("llama-server" if isa == "native" else f"llama-server-{isa}")


def build(isa: str) -> None:
    """Downloads the source with pip and compiles the server: minutes, once. isa: see server_binary.

    BadOption where cmake is missing, or where a step fails."""
    binary = server_binary(isa)
    if binary.exists():
        return
    if shutil.which("cmake") is None:
        raise BadOption("llama.cpp is built with cmake, which is not installed: pip install cmake")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        name = "llama-cpp-python"
        download = (sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", name, "-d", str(folder))
        _run(*download, f"{name}=={VERSION}")
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        source = next(folder.glob("llama_cpp_python-*")) / "vendor" / "llama.cpp"
        _run("cmake", "-S", str(source), "-B", str(folder / "build"), *_CMAKE_OPTIONS, *_INSTRUCTIONS[isa])
        jobs = str(len(os.sched_getaffinity(0)))
        _run("cmake", "--build", str(folder / "build"), "--target", "llama-server", "--parallel", jobs)
        binary.parent.mkdir(parents=True, exist_ok=True)
        built = binary.with_suffix(".part")  # a copy that is cut off never looks like the whole
        shutil.copy2(folder / "build" / "bin" / "llama-server", built)
        built.rename(binary)


@contextmanager
def serving(binary: Path, gguf: Path, slots: int, tokens_per_slot: int, threads: int) -> Iterator[str]:
    """The base URL of a server on 127.0.0.1 with room for so many requests at once, until the end of the block.

    BadOption, with the server's last line, where it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(binary),
        *("--model", str(gguf), "--host", "127.0.0.1", "--port", str(port)),
        *("--threads", str(threads), "--parallel", str(slots), "--ctx-size", str(slots * tokens_per_slot)),
    ]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            base_url = f"http://127.0.0.1:{port}"
            if not _answers(base_url, process):
                log.seek(0)
                raise BadOption(f"llama-server did not start: {(log.read().strip().splitlines() or ['no word'])[-1]}")
            yield base_url
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(base_url: str, process: subprocess.Popen[bytes]) -> bool:
    """Whether the server becomes healthy before its time is up."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{base_url}/health").status_code == httpx.codes.OK:
                return True
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.1)
    return False


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no word"]
        raise BadOption(f"{' '.join(command[:3])} failed: {lines[-1]}")
