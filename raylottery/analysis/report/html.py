"""Templates laid out as HTML: what comes from outside is escaped, one script may run."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from raylottery.analysis.report.drawings import INKS
from raylottery.analysis.words import percent


def laid_out(template: str, *, style: str, script: str, **values: object) -> str:
    """A page from a template; its content policy lets no script run but the one given."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _templates()
        .get_template(template)
        .render(style=Markup(style), script=Markup(script), script_hash=digest, **values)
    )


def part(name: str) -> str:
    """A file of this package: a template, a style or a script."""
    return (resources.files("raylottery.analysis.report") / name).read_text(encoding="utf-8")


def prose(text: str) -> Markup:
    """Text as it is printed: commands as code, figures on one line with their signs and units."""
    text = str(escape(text))
    text = re.sub("`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<])|(?<=[=<]) (?=\d)", "\u00a0", text)
    return Markup(re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text))


def _ink(colour: str) -> str:
    """An arm's colour as the figures have it: black is the page's ink."""
    return INKS.get(colour, colour)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FunctionLoader(part),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"percent": percent, "prose": prose, "ink": _ink}
    return environment
