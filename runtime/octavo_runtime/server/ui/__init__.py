"""The page at `/`: chat with the served model, and the server's live figures."""
