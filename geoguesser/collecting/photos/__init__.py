"""Places from one's own photos and panoramas."""
