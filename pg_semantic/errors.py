"""Every exception that the package raises on purpose.

::

    PgSemanticError
    ├── DeclarationError        an invalid declaration: unknown column, no primary key, a name taken
    ├── ConfigurationError      an invalid setting, DSN or input file, or an invalid argument of an encoder or reranker
    ├── ClosedError             an encoder or a reranker that was closed
    ├── DatabaseError           the server rejected a statement, or cannot be reached
    │   └── NotInstalled        pgvector or the schema `semantic` is missing or too old
    ├── IndexNotFound           this database has no semantic index of that name, or several
    ├── GenerationError         a generation that does not exist, or whose state does not allow the command
    ├── EncoderError            an encoder cannot be loaded, or fails on a text
    │   ├── EncoderMismatch     an encoder or dimensions that differ from those of the stored vectors
    │   └── EncoderUnavailable  an encoder that temporarily accepts no text at all
    ├── MissingExtra            an optional dependency is not installed
    └── QueryError              an invalid query

A message says what happened and what to do next.
"""


class PgSemanticError(Exception):
    """Base class of every exception that the package raises on purpose."""


class DeclarationError(PgSemanticError):
    """The declaration of a semantic index is invalid."""


class ConfigurationError(PgSemanticError):
    """A setting, a DSN, a file that you passed, or an argument of an encoder or reranker is invalid."""


class ClosedError(PgSemanticError):
    """The encoder or the reranker was closed, as when the process stops."""


class DatabaseError(PgSemanticError):
    """The database rejected a statement, or cannot be reached."""


class NotInstalled(DatabaseError):  # noqa: N818 - reads as the state it reports
    """pgvector or the schema `semantic` is missing from the database, or too old."""


class IndexNotFound(PgSemanticError):  # noqa: N818 - reads as the state it reports
    """The database has no semantic index of that name, or has several."""


class GenerationError(PgSemanticError):
    """A generation does not exist, or its state does not allow the command.

    ``not_better`` is True if judged queries don't show that it is good enough to switch to.
    """

    def __init__(self, message: str = "", *, not_better: bool = False) -> None:
        super().__init__(message)
        self.not_better = not_better


class EncoderError(PgSemanticError):
    """An encoder cannot be loaded, or failed on a text."""


class EncoderMismatch(EncoderError):  # noqa: N818 - reads as the state it reports
    """The encoder or its dimensions differ from those of the stored vectors."""


class EncoderUnavailable(EncoderError):  # noqa: N818 - reads as the state it reports
    """An encoder cannot be used for now, whatever the text.

    ``overloaded`` is True if too many queries are waiting in this process. Otherwise the server of a remote encoder
    is unreachable or refuses requests.
    """

    def __init__(self, message: str = "", *, overloaded: bool = False) -> None:
        super().__init__(message)
        self.overloaded = overloaded


class MissingExtra(PgSemanticError):  # noqa: N818 - reads as the state it reports
    """A required optional dependency is not installed."""


class QueryError(PgSemanticError):
    """The query is invalid."""
