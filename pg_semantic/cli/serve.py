"""``pg-semantic serve``: runs the HTTP service."""

import logging
from typing import Annotated

import typer

from pg_semantic import database, errors, settings
from pg_semantic.cli import logs, options

EXAMPLES = options.examples(
    "pg-semantic serve --dsn postgresql://app@localhost/shop",
    "pg-semantic serve --encoder sentence-transformers/all-MiniLM-L6-v2 --port 9000",
)


def serve(
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="An encoder to serve in addition to those of the database's indexes; repeatable."),
    ] = None,
    reranker: Annotated[list[str] | None, typer.Option(help="A reranker to serve; repeatable.")] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on. Other than loopback, it needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8080,
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
    dsn: options.Dsn = None,
) -> None:
    """Serve embeddings, reranking and searches over HTTP; without a database, only embeddings and reranking.

    Loads the encoders before it listens. On SIGTERM or Ctrl-C, answers the requests in progress and exits. Set the key
    that callers must send in PG_SEMANTIC_SERVICE_API_KEY.
    """
    configured = settings.load(dsn=dsn, log_format=log_format)
    logs.configure(style=configured.log_format, level=logging.INFO)
    from pg_semantic.service import server  # needs an extra

    serving = server.ServeOptions(tuple(encoder or ()), tuple(reranker or ()), host, port)
    if configured.dsn is None and not (encoder or reranker):
        raise errors.ConfigurationError("Nothing to serve: pass --dsn, --encoder or --reranker.")
    engine = database.connect(configured.dsn.get_secret_value()) if configured.dsn else None
    server.run(configured, serving, engine=engine)
