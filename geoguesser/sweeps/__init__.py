"""Sweeps: many runs from one command, each in a folder named by what changes its results.

multirun/NAME/HASH/        one job: a run folder
multirun/NAME/summary.*    all jobs, by validation error
multirun/NAME/.commands/   what each command that worked in the sweep came to, job by job
"""
