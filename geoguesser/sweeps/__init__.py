"""Sweeps: runs of one command, each in a folder named by the config values that change its results.

multirun/NAME/HASH/        run folder of one job
multirun/NAME/summary.*    table and plot of all jobs, by validation error
multirun/NAME/.commands/   outcome of each job in each command that worked in the sweep
"""
