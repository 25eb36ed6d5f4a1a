"""Measures how soon the rows that a killed worker had claimed are synced by another worker.

    make bench-recovery

12,000 short rows, leases of 8 seconds. A worker that holds at least 4,000 claims is killed (SIGKILL), and another one
is started. It syncs the other rows, and takes over those of the dead one when their leases have ended. The last line is
JSON: ``claimed`` is how many rows the dead worker held, ``seconds`` the time from the end of the last of these leases
to the sync of the last row, ``most_attempts`` the most attempts that were counted for a row meanwhile, and ``parked``
how many rows were given up. The goals are at most 30 seconds, and no attempt for rows that were lost in company.
"""

import json
import sys
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks import moments, server, workers
from pg_semantic import SemanticIndex

ROWS = 12_000
LEAST_CLAIMED = 4_000
LEASE_SECONDS = 8
GOAL_SECONDS = 30.0
_PATIENCE_SECONDS = 300.0


class Base(DeclarativeBase):
    """The metadata."""


class Note(Base):
    """A row of a few words."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:384")


@dataclass(slots=True)
class Watched:
    """The job table over one connection."""

    connection: sa.Connection
    most_attempts: int = 0

    def of_one(self, query: str) -> float:
        """Returns the number that a query returns, 0 for NULL."""
        found = self.connection.scalar(sa.text(query))
        return float(found or 0)

    def is_synced(self) -> bool:
        """Whether no job is left; remembers the attempts meanwhile."""
        pending = "SELECT max(attempts) FROM semantic.job WHERE state = 'pending'"
        self.most_attempts = max(self.most_attempts, int(self.of_one(pending)))
        return self.of_one("SELECT count(*) FROM semantic.job WHERE state <> 'failed'") == 0

    def claimed(self) -> float:
        """How many jobs are claimed."""
        return self.of_one("SELECT count(*) FROM semantic.job WHERE state = 'processing'")


def main() -> None:
    """Prints the results, with JSON as the last line."""
    with server.running() as postgres:
        engine = postgres.connect()
        Base.metadata.create_all(engine)
        words = "SELECT i, 'the words of row ' || md5(i::text) FROM generate_series(1, :rows) AS i"
        with engine.begin() as connection:
            connection.execute(sa.text(f"INSERT INTO note {words}"), {"rows": ROWS})
        doomed = workers.start(postgres.dsn, lease_seconds=LEASE_SECONDS)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            watched = Watched(connection)
            moments.until(lambda: watched.claimed() >= LEAST_CLAIMED, seconds=_PATIENCE_SECONDS, every_seconds=0.01)
            doomed.kill()
            doomed.wait()
            claimed = watched.claimed()
            lease = "SELECT extract(epoch FROM max(lease_until)) FROM semantic.job"
            ends = watched.of_one(lease)
            other = workers.start(postgres.dsn, lease_seconds=LEASE_SECONDS)
            try:
                moments.until(watched.is_synced, seconds=_PATIENCE_SECONDS, what="all rows are synced")
            finally:
                workers.stop(other)
            seconds = watched.of_one("SELECT extract(epoch FROM now())") - ends
            parked = watched.of_one("SELECT count(*) FROM semantic.job")
    result = {"rows": ROWS, "claimed": int(claimed), "seconds": round(seconds, 1)}
    print(json.dumps(result | {"most_attempts": watched.most_attempts, "parked": int(parked)}))
    sys.exit(0 if seconds <= GOAL_SECONDS and not watched.most_attempts and not parked else 1)


if __name__ == "__main__":
    main()
