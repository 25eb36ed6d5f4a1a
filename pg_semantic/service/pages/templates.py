"""Pages and parts of pages as responses: Jinja's templates, escaped, with the headers that keep foreign script out."""

from pathlib import Path

import jinja2
from fastapi.responses import HTMLResponse

FOLDER = Path(__file__).parent / "templates"

_POLICY = (
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def answer(name: str, **values: object) -> HTMLResponse:
    """The template of this name, filled in; whatever is text is escaped."""
    return HTMLResponse(_ENVIRONMENT.get_template(f"{name}.html").render(values), headers=_HEADERS)


def _number(value: float | None) -> str:
    """A number for a person: four figures, thousands apart; a dash for none."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(number=_number, share=_share)
