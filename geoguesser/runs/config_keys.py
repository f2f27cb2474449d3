"""Which keys of a resolved config change nothing in what a run comes to: names, records, how work is shared."""

from __future__ import annotations

WITHOUT_EFFECT = {  # by group; "" is the top
    "": ("logger", "name", "pictures", "dry_run", "resume"),
    "data": ("num_workers", "memory_gib"),
    "features": ("cache", "limit_gib"),
    "trainer": ("log_every_n_steps", "enable_model_summary", "enable_progress_bar", "default_root_dir"),
}
