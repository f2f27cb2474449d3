"""Statistics of predictions: metrics, intervals, comparison, error budget. No pictures."""
