"""python -m geoguesser.predict: coordinates for folders of places, photos, a CSV file of paths, or a store."""

from geoguesser.cli import command

main = command("predict")

if __name__ == "__main__":
    main()
