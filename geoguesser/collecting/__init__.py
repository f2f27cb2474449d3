"""Collecting: where to ask for views, asking providers, and places from photos and panoramas of your own."""
