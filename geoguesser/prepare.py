"""python -m geoguesser.prepare: check, merge, split and pack a data set once."""

from geoguesser.cli import command

main = command("prepare")

if __name__ == "__main__":
    main()
