"""Functions that a model may call: how they are offered, how models write calls, and how calls are read."""
