"""The report about a data set."""
