"""A trained model and its predictions, without Lightning and without Hydra."""
