"""Services of the process and its disk: files, locks, caches, threads. Knows nothing of places."""
