"""Requests and answers as HTTP has them: bounds, TLS, errors, streams; and the record of the request at hand."""
