"""Inspection of images and rows: findings, filtering, duplicates, leakage."""
