"""Modules of the commands: each takes a composed config. With cli and sweeps the only code that knows Hydra."""
