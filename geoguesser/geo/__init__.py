"""Floor 0: geography. No torch.nn, no images, no config."""
