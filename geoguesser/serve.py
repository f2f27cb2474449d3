"""python -m geoguesser.serve: web page and API of trained runs."""

from geoguesser.cli import command

main = command("serve")

if __name__ == "__main__":
    main()
