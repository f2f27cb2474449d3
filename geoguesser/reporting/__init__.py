"""Floor 3: what people look at, from a run's numbers: maps, plots, comparisons, statistics, pages."""
