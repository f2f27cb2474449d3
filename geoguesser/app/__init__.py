"""Web page and API: predictions for uploaded photos, and a game against a trained model. No Hydra or Lightning."""
