"""From a request, checked once, to its answer in pieces: text, reasoning, calls, the end, and the counts."""
