"""The certificates that the operator serves the API server with, and the Secrets that keep them."""
