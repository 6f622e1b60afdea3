"""Functions that a client offers to the model: how they are told to it, and how its calls are read."""
