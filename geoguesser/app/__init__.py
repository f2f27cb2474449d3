"""The web page and its API: what a trained model says of photos, and a game against it. No Hydra, no Lightning."""
