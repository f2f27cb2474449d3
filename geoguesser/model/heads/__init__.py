"""Heads: classification over cells, regression, and the hybrid of both."""
