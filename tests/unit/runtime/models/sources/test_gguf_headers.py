"""What of a GGUF file is brought to know which model it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from random_gguf import CONFIG, write
from transformers import LlamaForCausalLM

from octavo_runtime.models.loading.gguf_parts import open_parts
from octavo_runtime.models.loading.gguf_spec import gguf_spec
from octavo_runtime.models.sources import gguf_headers, transfer
from octavo_runtime.models.sources.snapshot import Bytes, Interrupted, RemoteFile
from octavo_runtime.models.spec import UnsupportedModel


class Source:
    """One file. `brought`: how many of its bytes were read; `ranges`: whether it begins where it is asked to; `ends`:
    where its answers end; `asked`: how often it was read."""

    def __init__(self, content: bytes, *, ranges: bool = True, ends: int | None = None) -> None:
        self.brought = 0
        self.asked = 0
        self._ranges = ranges
        self._ends = len(content) if ends is None else ends
        self.file = RemoteFile("q4/model.gguf", len(content), None, self._read)
        self._content = content

    @contextmanager
    def _read(self, offset: int) -> Iterator[Bytes]:
        self.asked += 1
        assert self.asked < 100, "the same is asked for over and over"
        start = offset if self._ranges else 0
        yield Bytes(start, self._chunks(start))

    def _chunks(self, offset: int) -> Iterator[bytes]:
        for start in range(offset, self._ends, 50):
            chunk = self._content[start : min(start + 50, self._ends)]
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


def test_a_source_that_knows_no_ranges_leaves_no_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_headers, "_FIRST", 64)
    whole = tmp_path / "whole.gguf"
    write(whole, LlamaForCausalLM(CONFIG), tensors={"rope_freqs.weight": np.full(8, 2.0, np.float32)})
    (part,) = open_parts(gguf_headers.fetch_header(Source(whole.read_bytes(), ranges=False).file, tmp_path))
    left = {tensor.name for tensor in part.tensors if tensor.data.any()}
    assert "rope_freqs.weight" in left
    assert "output.weight" not in left


def test_an_answer_that_ends_early_is_asked_for_again_and_then_told(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_PAUSES", (0.0, 0.0))
    whole = tmp_path / "whole.gguf"
    write(whole, LlamaForCausalLM(CONFIG))
    source = Source(whole.read_bytes(), ends=200)
    with pytest.raises(Interrupted, match=rf"q4/model\.gguf broke off at byte 200 of {whole.stat().st_size}"):
        gguf_headers.fetch_header(source.file, tmp_path)
    assert source.asked == 3


@pytest.mark.parametrize("missing", [8, 12])
def test_a_header_that_ends_before_the_type_or_the_offset_of_its_last_tensor_goes_on(missing, tmp_path, monkeypatch):
    whole = tmp_path / "whole.gguf"
    write(whole, LlamaForCausalLM(CONFIG))
    (reader,) = open_parts(whole)
    field = reader.tensors[-1].field
    monkeypatch.setattr(gguf_headers, "_FIRST", field.offset + sum(each.nbytes for each in field.parts) - missing)
    (part,) = open_parts(gguf_headers.fetch_header(Source(whole.read_bytes()).file, tmp_path))
    assert [(each.name, each.tensor_type, each.data_offset) for each in part.tensors] == [
        (each.name, each.tensor_type, each.data_offset) for each in reader.tensors
    ]


@pytest.mark.parametrize("content", [b"", b"GG", b"no GGUF file" * 100, b"GGUF" + b"\xff" * 1000, b"GGUF" + b"\0" * 99])
def test_what_is_no_gguf_file_is_told_by_who_opens_it(content, tmp_path):
    path = gguf_headers.fetch_header(Source(content).file, tmp_path)
    with pytest.raises(UnsupportedModel, match="is no whole GGUF file"):
        open_parts(path)
