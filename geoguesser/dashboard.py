"""python -m geoguesser.dashboard: a page in W&B that compares the runs of a sweep."""

from geoguesser.cli import command

main = command("dashboard")

if __name__ == "__main__":
    main()
