"""Data sources: where places and their views come from."""
