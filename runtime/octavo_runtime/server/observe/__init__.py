"""What operators see of the server: metrics, log lines, traces; never more of a prompt than they asked for."""
