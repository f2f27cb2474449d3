"""Heads: layers that turn the fused features of a place into a loss and into coordinates."""
