"""Floor 1: places and their views, from files to batches. Uses geo, never model."""
