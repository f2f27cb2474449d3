"""Extensions of geoguesser: a head, a loss, a backbone, a data source and a tracker; see docs/extending.md."""
