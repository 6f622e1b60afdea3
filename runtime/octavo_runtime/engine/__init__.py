"""The engine: who runs in the next step, in which blocks, and what becomes of the tokens."""
