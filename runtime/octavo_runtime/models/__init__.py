"""Decoder families as data, the decoder that runs them, and the files that they come in."""
