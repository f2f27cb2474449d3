"""Version of the package, and of the packages on which results depend. The build reads `__version__` from here."""

from __future__ import annotations

import platform

__version__ = "0.2.0"

RECORDED_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "timm", "numpy", "pyproj", "shapely")


def collect_versions() -> dict[str, str]:
    """Returns the versions of the package, of Python and of the packages on which results depend."""
    # Imported here: importlib.metadata takes longer to load than the rest of `import geoguesser`.
    from importlib.metadata import version

    packages = {name: version(name) for name in RECORDED_PACKAGES}
    return {"geoguesser": __version__, "python": platform.python_version(), **packages}
