"""python -m geoguesser.collect: plan points, ask a provider of street views, download the views of each place."""

from geoguesser.cli import command
from geoguesser.commands.arguments import refuse_credentials

main = command("collect", rewrite=refuse_credentials)

if __name__ == "__main__":
    main()
