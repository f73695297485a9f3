"""The request path: one request is one straight line through these files."""
