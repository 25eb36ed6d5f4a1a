"""How long a worker waits between its tries at something: `Intervals`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds that a worker waits.

    Attributes:
        privileges: Between two looks at the privileges on the tables.
        statistics: Between two looks at the statistics of partitioned tables.
        resources: After the server was short of disk, memory or connections.
        refused: Before a generation whose encoder or tables caused an error is tried again.
    """

    privileges: float = 60.0
    statistics: float = 300.0
    resources: float = 5.0
    refused: float = 30.0
