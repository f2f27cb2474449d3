"""Result, tables and pictures of one training run."""
