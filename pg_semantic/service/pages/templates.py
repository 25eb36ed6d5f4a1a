"""Pages and parts of pages as responses: Jinja templates, autoescaped, with headers that keep out foreign scripts."""

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
    """Renders a template. Values are escaped unless the template marks them as safe.

    Args:
        name: The template's file name without its suffix.
    """
    return HTMLResponse(_ENVIRONMENT.get_template(f"{name}.html").render(values), headers=_HEADERS)


def _number(value: float | None) -> str:
    """Formats a number with thousands separators, floats with four digits; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun, such as "1 row" or "2 rows"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(counted=_counted, number=_number, share=_share)
