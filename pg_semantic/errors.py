"""Every error that the package raises on purpose; nothing else.

::

    PgSemanticError
    ├── DeclarationError        a semantic index that can not be: unknown column, no primary key, a name taken
    ├── SettingsError           a setting or a DSN that can not be read
    ├── DatabaseError           the server refused, or can not be reached
    │   └── NotInstalled        pgvector or the pg_semantic schema is missing or too old
    ├── IndexNotFound           no semantic index of that name in this database
    ├── GenerationError         a copy of a semantic index that is not there, or not ready for a step
    ├── EncoderError            an encoder that can not be loaded, or that fails on a text
    │   ├── EncoderMismatch     not the encoder, or not the dimensions, that the vectors were made with
    │   └── EncoderUnavailable  an encoder that can not be used for now, whatever the text: overloaded, or out of reach
    ├── MissingExtra            an optional dependency is not installed
    └── QueryError              a search that can not be answered as asked

A message says what happened and what to do next.
"""


class PgSemanticError(Exception):
    """Base of every error that the package raises on purpose."""


class DeclarationError(PgSemanticError):
    """The semantic index can not be declared this way."""


class SettingsError(PgSemanticError):
    """A setting or a DSN can not be read."""


class DatabaseError(PgSemanticError):
    """The database refused a statement or can not be reached."""


class NotInstalled(DatabaseError):  # noqa: N818 - reads as the state it reports
    """The database lacks pgvector or the pg_semantic schema, or has one too old."""


class IndexNotFound(PgSemanticError):  # noqa: N818 - reads as the state it reports
    """No semantic index of that name exists in this database."""


class GenerationError(PgSemanticError):
    """A copy of a semantic index is not there, or not in the state that a step needs."""


class EncoderError(PgSemanticError):
    """The encoder can not be loaded, or failed on a text."""


class EncoderMismatch(EncoderError):  # noqa: N818 - reads as the state it reports
    """The encoder is not the one that the stored vectors were made with."""


class EncoderUnavailable(EncoderError):  # noqa: N818 - reads as the state it reports
    """Too many queries wait, or a remote encoder's server can not be reached or lets nobody in: no text is to blame.

    ``overloaded`` says that it is the former, here in this process.
    """

    def __init__(self, message: str = "", *, overloaded: bool = False) -> None:
        super().__init__(message)
        self.overloaded = overloaded


class MissingExtra(PgSemanticError):  # noqa: N818 - reads as the state it reports
    """An optional dependency is needed and not installed."""


class QueryError(PgSemanticError):
    """The search can not be answered as asked."""
