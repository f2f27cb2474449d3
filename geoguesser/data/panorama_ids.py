"""Panorama ids: which columns of a table name a place's panorama, and which words there name none."""

from __future__ import annotations

NO_PANORAMA = ("nan", "none", "null", "na", "<na>")  # what programs write for nothing
PANORAMA_COLUMNS = ("panorama_id", "pano_id", "panoid", "panoramaid")
