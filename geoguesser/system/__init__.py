"""Services for the process and its disk: files, locks, caches, threads."""
