"""Answers of an engine's chat endpoint, in the words of other protocols."""
