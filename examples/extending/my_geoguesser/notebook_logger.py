"""Tracker: a Markdown table with a row per run, for example in a laboratory notebook."""

from pathlib import Path

from geoguesser.errors import ConfigError
from geoguesser.tracking.loggers import RunLogger


class NotebookLogger(RunLogger):
    """Appends the test result of each run to a Markdown file.

    Args:
        file: Markdown file; it is made if it is absent.
        name: Name of the run.
        folder: The run folder.
    """

    def __init__(self, *, file: str, name: str, folder: str):
        self.file, self.name, self.folder = Path(file).expanduser(), name, folder
        if self.file.suffix != ".md":
            raise ConfigError.at("logger.file", "must be a Markdown file, as notes.md", found=file)

    def make_lightning_logger(self):
        # The run folder has the curves in metrics.csv.
        return False

    def log_results(self, result, pictures, predictions):
        mean, median = (result["test"][f"error_km_{name}"] for name in ("mean", "median"))
        if not self.file.exists():
            self.file.write_text("| run | mean km | median km | folder |\n| --- | --- | --- | --- |\n")
        with self.file.open("a") as stream:
            stream.write(f"| {self.name} | {mean:.1f} | {median:.1f} | {self.folder} |\n")

    def finish(self, outcome):
        return f"{outcome}; see {self.file}"
