"""One module per command: a composed config in, a result out. With cli and sweeps all that knows Hydra."""
