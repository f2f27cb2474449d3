"""python -m geoguesser.evaluate: metrics of a run on labelled places, or of predictions of any program."""

from geoguesser.cli import command

main = command("evaluate")

if __name__ == "__main__":
    main()
