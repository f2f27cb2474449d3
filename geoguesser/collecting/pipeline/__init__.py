"""The steps of collecting: metadata, filters, download, their workers, status and cost."""
