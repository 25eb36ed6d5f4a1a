"""The HTTP service ``pg-semantic serve``: embeddings, reranking, search, metrics and web pages. `app` assembles it."""

from pg_semantic import errors

try:
    import fastapi  # noqa: F401 - checks once, for all modules of the package, that the extra is installed
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise errors.MissingExtra("The service needs an extra: pip install 'pg-semantic-index[serve]'.") from error
