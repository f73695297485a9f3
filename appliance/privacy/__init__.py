"""The controls that keep content from persisting or leaking."""
