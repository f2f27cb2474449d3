"""python -m geoguesser.compare: differences between runs, with intervals."""

from geoguesser.cli import command
from geoguesser.commands.arguments import expand_runs

main = command("compare", rewrite=expand_runs)

if __name__ == "__main__":
    main()
