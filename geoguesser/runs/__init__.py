"""A run folder on disk, read back: its config, results, predictions and images."""
