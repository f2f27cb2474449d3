"""Floor 1: networks, heads, decoders, metrics. Plain torch; uses geo, never data."""
