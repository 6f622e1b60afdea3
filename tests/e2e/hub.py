"""A stand-in for the Hugging Face hub, run in a pod: hub.py PORT FOLDER TOKEN

Makes a tiny Llama with random weights in FOLDER and serves it as tests/tiny to who brings TOKEN: the three questions
that huggingface_hub asks are for the repository, its tree and its files. As tests/slow it is the same, but the weights
stop in the middle until there is a file GO. The log says from which byte the weights were asked for."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

REPOSITORIES = ("tests/tiny", "tests/slow")
GO = Path("/tmp/go")
WEIGHTS = "model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
END = "<|end|>"
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"

port, folder, token = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


def make_model() -> None:
    """A model whose tokens are bytes."""
    vocabulary = {piece: number for number, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / WEIGHTS).chmod(0o644)  # for the user of the pods that mount it
    folder.parent.chmod(0o777)  # they keep models there too
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, "chat_template": TEMPLATE}))


class Hub(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        repository = "/".join(parts[2:4] if api else parts[:2])
        if repository not in REPOSITORIES or (not api and parts[-1] not in files):
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif self.headers.get("Authorization") != f"Bearer {token}":
            self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
        elif not api:
            wanted = self.headers.get("Range")
            start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            if parts[-1] == WEIGHTS and self.command == "GET":
                print(repository, "weights from", start, flush=True)
            about = {"ETag": f'"{parts[-1]}"', "X-Repo-Commit": COMMIT}
            stops = repository == "tests/slow" and parts[-1] == WEIGHTS
            self.answer(206 if wanted else 200, files[parts[-1]][start:], about, stops=stops)
        elif "tree" in parts:
            tree = [{"type": "file", "path": name, "size": len(files[name]), "oid": name} for name in files]
            self.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        else:
            siblings = [{"rfilename": name} for name in files]
            about = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": True, "tags": [], "downloads": 0}
            self.answer(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

    def answer(self, status: int, content: bytes, headers: dict[str, str], *, stops: bool = False) -> None:
        """Send headers, and the content unless only they were asked for. `stops`: in the middle, until GO."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            half = len(content) // 2
            self.wfile.write(content[:half])
            while stops and not GO.exists():
                time.sleep(0.1)
            self.wfile.write(content[half:])


folder.mkdir(parents=True, exist_ok=True)
make_model()
ThreadingHTTPServer(("", port), Hub).serve_forever()
