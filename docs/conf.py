"""Settings of the documentation site: Sphinx reads this file. `make docs` builds the site without a network."""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

project = "pg_semantic"
html_title = "pg_semantic"
html_theme = "furo"
html_show_copyright = False
html_copy_source = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "contributing/questions.md"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # psql's commands, such as \set, in a block of SQL
smartquotes = False  # it would turn the two hyphens of an option into a dash

default_role = "py:obj"  # docstrings name code in single backticks
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
napoleon_use_ivar = True
napoleon_numpy_docstring = False
napoleon_preprocess_types = False

# The modules whose objects have a page, in the order in which a short name such as `Hit` is looked up.
PUBLIC = (
    "pg_semantic",
    "pg_semantic.search",
    "pg_semantic.encoders",
    "pg_semantic.rerankers",
    "pg_semantic.generations",
    "pg_semantic.alembic_plugin",
    "pg_semantic.errors",
)
OURS = "pg_semantic."
SHORT = {module.removeprefix(OURS) for module in PUBLIC}
_CONDITIONS = re.compile(r"~collections\.abc\.Sequence\[(?:(?!Sequence\[)[^=])*?LambdaElement\]")
_ARRAY = re.compile(r"~numpy\.ndarray\[~?(?:\w+\.)*tuple\[[^\]]*\], ~numpy\.dtype\[([^\[\]]+)\]\]")
LISTED = "The pages of the documentation, in reading order."


def resolve(  # noqa: PLR0917 - Sphinx passes four arguments
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.Node | None:
    """Links a name in a docstring or a signature to its object; names of other projects stay plain text.

    Docstrings use the names that a reader of the module uses, such as `errors.QueryError` and `Searcher.search`.
    """
    if node.get("refdomain") != "py":
        return None
    domain: Any = env.domains.python_domain
    target: str = node["reftarget"]
    names = [target, *(f"{module}.{target}" for module in PUBLIC), f"{OURS}{target}"]
    names += [name for name in domain.objects if name.endswith(f".{target}")]
    for name in names:
        if name in domain.objects:
            return _link(app, node, shown, to=domain.objects[name])
    is_type_variable = len(target.rpartition(".")[2]) == 1
    if "." in target and target.partition(".")[0] in SHORT and not is_type_variable:
        return None  # a name such as errors.QueryError must be right
    if target.startswith(OURS) and node.get("reftype") != "obj" and not is_type_variable:
        return None  # a type of ours in a public signature must be documented
    return shown


def _link(app: Sphinx, node: pending_xref, shown: nodes.TextElement, *, to: Any) -> nodes.Node:  # noqa: ANN401
    uri = app.builder.get_relative_uri(node["refdoc"], to.docname)
    return nodes.reference("", "", shown, internal=True, refuri=f"{uri}#{to.node_id}")


def shorten(*event: Any) -> tuple[str, str | None] | None:  # noqa: ANN401 - what Sphinx passes depends on the object
    """Writes the aliases of SQLAlchemy and numpy in a signature by their names, not as the unions that they mean."""
    *_, arguments, returns = event
    return (_aliased(arguments), _aliased(returns) if returns else returns) if arguments else None


def _aliased(signature: str) -> str:
    signature = _CONDITIONS.sub("~collections.abc.Sequence[~sqlalchemy.ColumnExpressionArgument[bool]]", signature)
    return _ARRAY.sub(r"~numpy.typing.NDArray[\1]", signature)


def list_pages(app: Sphinx, error: Exception | None) -> None:
    """Writes llms.txt, a list of all pages with a line about each, next to index.html."""
    if error or app.builder.format != "html":
        return
    env = app.env
    order = [page for page in _in_order(env, "index") if page != "index"]
    lines = [f"# {project}", "", f"> {_summary(env, 'index')}", "", LISTED, ""]
    lines += [f"- [{env.titles[page].astext()}]({page}.html): {_summary(env, page)}" for page in order]
    (Path(app.outdir) / "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")


def _in_order(env: BuildEnvironment, page: str) -> list[str]:
    inner = env.toctree_includes.get(page, [])
    return [page, *(name for one in inner for name in _in_order(env, one))]


def _summary(env: BuildEnvironment, page: str) -> str:
    """Returns the first sentence of a page."""
    paragraph = next(iter(env.get_doctree(page).findall(nodes.paragraph)), None)
    text = " ".join(paragraph.astext().split()) if paragraph else ""
    sentence, end, _ = text.partition(". ")
    return sentence + end.strip()


def setup(app: Sphinx) -> None:
    """Connects the functions above to Sphinx."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", shorten)
    app.connect("build-finished", list_pages)
