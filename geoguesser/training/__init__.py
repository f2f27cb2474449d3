"""Floor 2: training with Lightning."""
