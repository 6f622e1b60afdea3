"""What of a GGUF file is brought to know which model it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from random_gguf import CONFIG, write
from transformers import LlamaForCausalLM

from octavo_runtime.models.loading.gguf_parts import open_parts
from octavo_runtime.models.loading.gguf_spec import gguf_spec
from octavo_runtime.models.sources import gguf_headers
from octavo_runtime.models.sources.snapshot import Bytes, RemoteFile
from octavo_runtime.models.spec import UnsupportedModel


class Source:
    """One file. `brought`: how many of its bytes were read."""

    def __init__(self, content: bytes) -> None:
        self.brought = 0
        self.file = RemoteFile("q4/model.gguf", len(content), None, self._read)
        self._content = content

    @contextmanager
    def _read(self, offset: int) -> Iterator[Bytes]:
        yield Bytes(offset, self._chunks(offset))

    def _chunks(self, offset: int) -> Iterator[bytes]:
        for start in range(offset, len(self._content), 50):
            chunk = self._content[start : start + 50]
            self.brought += len(chunk)
            yield chunk


def test_the_header_and_the_numbers_of_the_rotary_embedding_come_and_no_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_headers, "_FIRST", 64)
    whole = tmp_path / "whole.gguf"
    write(whole, LlamaForCausalLM(CONFIG), tensors={"rope_freqs.weight": np.full(8, 2.0, np.float32)})
    source = Source(whole.read_bytes())
    path = gguf_headers.fetch_header(source.file, tmp_path)
    assert (path, path.stat().st_size) == (tmp_path / "model.gguf", whole.stat().st_size)
    assert gguf_spec(open_parts(path)) == gguf_spec(open_parts(whole))
    assert source.brought < whole.stat().st_size / 10


@pytest.mark.parametrize("content", [b"", b"GG", b"no GGUF file" * 100, b"GGUF" + b"\xff" * 1000, b"GGUF" + b"\0" * 99])
def test_what_is_no_gguf_file_is_told_by_who_opens_it(content, tmp_path):
    path = gguf_headers.fetch_header(Source(content).file, tmp_path)
    with pytest.raises(UnsupportedModel, match="is no whole GGUF file"):
        open_parts(path)
