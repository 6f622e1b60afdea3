"""Who may ask, and how much: keys, host names, rate limits, and the caller of the request at hand."""
