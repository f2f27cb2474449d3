"""The report that explains a run's predictions."""
