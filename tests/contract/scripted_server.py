"""`octavo serve` with the scripted engine in the place of the real one: scripted_server.py [serve's arguments]."""

import sys
from functools import cache
from threading import Lock

import scripted_engine

import octavo_runtime.server.serve
from octavo_runtime.cli.app import main
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.text.tokenizer import Tokenizer, load_tokenizer

_loaded, _loading = cache(load_tokenizer), Lock()


def load_once(files: ModelFiles) -> Tokenizer:
    """The server and its engine ask at once for what is mostly the same one, and takes a fifth of the start."""
    with _loading:
        return _loaded(files)


octavo_runtime.server.serve.load_tokenizer = scripted_engine.load_tokenizer = load_once
octavo_runtime.server.serve.EngineClient = scripted_engine.ScriptedEngine
sys.argv[0] = "octavo"
main()
