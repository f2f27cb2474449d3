"""HTML pages from the Jinja2 templates in reporting/templates/. A page is one file, without external parts.

All values are escaped, except those of type `Markup`: style sheets, scripts and rendered templates.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from geoguesser.system.text import (
    format_count,
    format_km,
    format_p_value,
    format_part,
    format_percent,
    format_seconds,
    replace_unprintable,
)
from geoguesser.system.versions import __version__

# Content security policy with which a browser loads nothing from outside, whatever a value injects into the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

FILTERS = (format_km, format_p_value, format_part, format_percent, format_seconds)

P = ParamSpec("P")


def to_data_uri(data: bytes) -> str:
    """Encodes a PNG or JPEG image as a data URI."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def draw_data_uri(draw: Callable[Concatenate[Path, P], None], *args: P.args, **kwargs: P.kwargs) -> str:
    """Draws a picture and encodes it as a data URI."""
    with tempfile.TemporaryDirectory(prefix="geoguesser-picture-") as folder:
        path = Path(folder) / "picture.png"
        draw(path, *args, **kwargs)
        return to_data_uri(path.read_bytes())


def _finalize_html(value: object) -> object:
    return value if isinstance(value, Markup) else replace_unprintable(str(value))


@cache
def make_html_environment() -> Environment:
    """Returns the Jinja2 environment of the pages: it escapes text and replaces unprintable characters."""
    environment = Environment(
        extensions=["jinja2.ext.do"],
        loader=PackageLoader("geoguesser.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize_html,
    )

    environment.globals |= {"counted": format_count, "version": __version__}
    environment.filters |= {function.__name__: function for function in FILTERS}
    environment.filters |= {"data_uri": to_data_uri, "thousands": "{:,}".format}
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def read_source(name: str) -> str:
    """Returns the text of a style sheet or script in the folder of the templates."""
    return (files("geoguesser.reporting") / "templates" / name).read_text(encoding="utf-8")


def render_html(
    template: str | Template, *, scripts: Sequence[str] = (), styles: Sequence[str] = (), **values: Any
) -> str:
    """Returns the text of a page from a template that extends base.html (or its name), with the template's values.

    The page permits no other script than `scripts`, which run after loading. `styles` follow page.css.
    """
    # A hash in the policy permits this script only.
    script, policy = "\n".join(scripts), POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"

    style = "".join((read_source("page.css"), *styles))

    page = make_html_environment().get_template(template)
    return page.render(policy=policy, script=Markup(script), style=Markup(style), **values)
