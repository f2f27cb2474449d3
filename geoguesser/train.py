"""python -m geoguesser.train: train and test one model, or a sweep of them with --multirun."""

from geoguesser.cli import command
from geoguesser.commands.arguments import expand_resume

main = command("train", rewrite=expand_resume, module="geoguesser.sweeps.job")

if __name__ == "__main__":
    main()
