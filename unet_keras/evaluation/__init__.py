"""Scores of pixels and instances, and the report."""
