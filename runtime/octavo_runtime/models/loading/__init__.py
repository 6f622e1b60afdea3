"""The files that a model comes in, and what is read of them."""
