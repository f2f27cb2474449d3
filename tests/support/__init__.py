"""Helpers shared by the tests: stub servers, small models and data, and a browser."""
