"""`octavo top`: a server's load, speed and latencies in the terminal, from its metrics."""
