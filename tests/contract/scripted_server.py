"""`octavo serve` with the scripted engine in the place of the real one: scripted_server.py [serve's arguments]."""

import sys

from scripted_engine import ScriptedEngine

import octavo_runtime.server.serve
from octavo_runtime.cli.app import main

octavo_runtime.server.serve.EngineClient = ScriptedEngine
sys.argv[0] = "octavo"
main()
