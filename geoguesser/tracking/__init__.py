"""Experiment tracking: W&B, TensorBoard and CSV."""
