"""Filters for log lines and warnings of libraries that no user can act on."""

from __future__ import annotations

import logging
import warnings

from geoguesser.system.secret_values import redact_record


def filter_logs() -> None:
    """Sets the filters for this process."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(redact_record)

    # Device and tip lines of Lightning: the run's own lines say what matters.
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.accelerators").setLevel(logging.WARNING)
    # Views kept in memory and cached features need no loader processes.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Few places make few batches; that is the user's data, not a mistake.
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # A frozen backbone is in evaluation mode on purpose.
    warnings.filterwarnings("ignore", message="Found .* module.s. in eval mode at the start of training.*")
    # Lightning 2.6 calls a function that torch 2.15 renames.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.. is deprecated.*")
    # Resuming goes on in the same folder, on purpose.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
