"""The process and its disk: memory, files, locks, caches, processors. Nothing about places."""
