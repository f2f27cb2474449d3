"""python -m geoguesser.report: one page that explains what a run predicts, and where it errs."""

from geoguesser.cli import command

main = command("report")

if __name__ == "__main__":
    main()
