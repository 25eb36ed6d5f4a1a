"""The HTTP service ``pg-semantic serve``: embeddings, reranking, searches, figures. `app` puts it together."""

from pg_semantic import errors

try:
    import fastapi  # noqa: F401 - whether the extra is there is found out here, for all modules of the folder
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise errors.MissingExtra("The service needs an extra: pip install 'pg-semantic-index[serve]'.") from error
