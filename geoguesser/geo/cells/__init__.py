"""Partitions of a region into cells."""
