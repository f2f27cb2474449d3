"""The package's version. The build reads it from here, and so does every module that records it."""

from __future__ import annotations

__version__ = "0.2.0"
