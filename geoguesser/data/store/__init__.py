"""The store: prepared images in packed shards, read and written."""
