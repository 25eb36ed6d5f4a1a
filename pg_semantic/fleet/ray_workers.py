"""Workers as actors on a Ray cluster: `RayWorkers`. Imports Ray, an optional dependency, when it connects.

Ray places the actors, starts them again elsewhere when they die, and asks its autoscaler for machines. It transports
neither texts nor vectors: an actor is a worker like any other, and takes its rows from the database.
"""

import contextlib
import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pg_semantic import errors
from pg_semantic.fleet.interrupts import Interrupts
from pg_semantic.fleet.ray_actor import Order, RayActor
from pg_semantic.worker import supervisor

if TYPE_CHECKING:
    from ray import ObjectRef

log = logging.getLogger("pg_semantic.fleet")

_LOOK_SECONDS = 1.0
_GIVE_BACK_SECONDS = 10.0
_THREADS = 3  # of an actor: one works, the others obey
_FOREVER = -1
_PLACING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where actors go.

    Attributes:
        address: The address of the cluster, as for `ray.init`; ``auto`` is $RAY_ADDRESS or a cluster on this machine.
        count: How many actors there are.
        gpus: GPUs of each; a fraction if several share one.
        cpus: CPUs of each. Ray lets the libraries of an actor use as many threads.
        runtime_env: The runtime environment of the actors, as for `ray.init`.
    """

    address: str = "auto"
    count: int = 1
    gpus: float = 0.0
    cpus: float = 1.0
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bundle(self) -> dict[str, float]:
        """The resources of one actor, in Ray's words."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


def count_for(rows: int | None, *, least: int, most: int, rows_each: int) -> int:
    """Returns how many workers to start: as many as there is work for, within limits.

    Args:
        rows: How many rows wait; None if that is unknown.
        least: The fewest workers.
        most: The most workers.
        rows_each: How many rows a worker holds at a time.
    """
    return most if rows is None else min(most, max(least, -(-rows // rows_each)))


def require() -> None:
    """Checks that Ray is installed, without importing it.

    Raises:
        errors.MissingExtra: It isn't.
    """
    if importlib.util.find_spec("ray") is None:
        raise errors.MissingExtra("Placing workers with Ray needs an extra: pip install 'pg-semantic-index[ray]'.")


class RayWorkers:
    """Runs workers on a Ray cluster, which this process must stay connected to: they end with it.

    Args:
        placement: Where they go.
        order: What they work on. Ray sends it to each actor in a message, which is encrypted if the cluster uses TLS,
            and writes it to no log or command line.
        drain_seconds: How long the actors may take to finish after the first signal.
        verbose: Whether to print what the actors log.
    """

    engine = "ray"

    def __init__(self, placement: Placement, order: Order, *, drain_seconds: float, verbose: bool = False) -> None:
        require()
        self.count = placement.count
        self._placement = placement
        self._order = order
        self._drain_seconds = drain_seconds
        self._verbose = verbose
        self._failure: str | None = None
        self._interrupted = False
        self._say_at = 0.0

    @property
    def failure(self) -> str | None:
        """How the last worker that ended did; None if none ended."""
        return self._failure

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal stopped the workers."""
        return self._interrupted

    def run(self, until: Callable[[], bool]) -> None:
        """Runs the actors until ``until`` returns True or a signal arrives. At a second signal, ends them at once.

        Raises:
            errors.ConfigurationError: The cluster cannot be reached, or cannot start an actor.
        """
        with self._connected():
            self._say_at = time.monotonic() + _PLACING_SECONDS
            interrupts = Interrupts()  # after connecting, which replaces the handlers
            crew = [_Member(self._actor(), self._order) for _ in range(self._placement.count)]
            try:
                with self._hinted() as take_back:
                    while not interrupts.wait(_LOOK_SECONDS) and not until():
                        self._look_after(crew)
                        if self._all_placed(crew):
                            take_back()
                self._interrupted = interrupts.count > 0
                self._drain(crew, interrupts)
            finally:
                for member in crew:
                    member.kill()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Connects to the cluster, unless this process is connected, as in a job of Ray's that calls this."""
        import ray

        if ray.is_initialized():
            yield
            return
        self._connect()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # where Ray prints logs, and standard output is for JSON
                yield
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        import ray

        try:
            ray.init(
                address=self._placement.address,
                runtime_env=dict(self._placement.runtime_env) or None,
                log_to_driver=self._verbose,
                logging_level=logging.WARNING,
            )
        except ValueError as error:
            raise errors.ConfigurationError(f"Ray refuses the address or the environment: {_line(error)}") from error
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            raise errors.ConfigurationError(
                f"Cannot connect to the Ray cluster {self._placement.address!r}: {_line(error)} Pass its address with "
                "--address or $RAY_ADDRESS, and its token with $RAY_AUTH_TOKEN or $RAY_AUTH_TOKEN_PATH."
            ) from error

    @contextlib.contextmanager
    def _hinted(self) -> Iterator[Callable[[], None]]:
        """Asks the autoscaler for room for all actors at once.

        Ray remembers that request, which keeps machines, longer than this process lives. So it should be short.

        Yields:
            A function that takes the request back, which also happens at the end of the block.
        """
        from ray.autoscaler import sdk

        asked = True

        def take_back() -> None:
            nonlocal asked
            if asked:
                sdk.request_resources(bundles=[])
                asked = False

        sdk.request_resources(bundles=[self._placement.bundle] * self._placement.count)
        try:
            yield take_back
        finally:
            take_back()

    def _actor(self) -> Any:  # noqa: ANN401 - Ray makes the class
        import ray

        made: Any = ray.remote(RayActor)
        return made.options(
            num_cpus=self._placement.cpus,
            num_gpus=self._placement.gpus,
            max_restarts=_FOREVER,
            max_task_retries=_FOREVER,
            max_concurrency=_THREADS,
        ).remote()

    def _look_after(self, crew: list["_Member"]) -> None:
        """Starts those workers again that have ended, after a while."""
        for member in crew:
            ended = member.look()
            if ended is not None:
                self._failure = ended
                log.warning("a worker on Ray ended: %s", ended, extra={"event": "worker_died"})

    def _all_placed(self, crew: list["_Member"]) -> bool:
        """Returns whether all workers have a place. Logs now and then that none has, because Ray waits forever."""
        placed = sum(member.is_placed for member in crew)
        if not placed and time.monotonic() > self._say_at:
            self._say_at = time.monotonic() + _PLACING_SECONDS
            log.warning(
                "none of %d workers has a place yet: the cluster lacks %s, or can't start Python (see Ray's log)",
                len(crew),
                self._placement.bundle,
                extra={"event": "not_placed"},
            )
        return placed == len(crew)

    def _drain(self, crew: list["_Member"], interrupts: Interrupts) -> None:
        """Lets workers finish what they hold. Gives it back if that takes too long, or at a second signal."""
        ends = time.monotonic() + self._drain_seconds
        while any(member.is_running for member in crew):
            for member in crew:
                member.stop()  # again and again: an actor that was started again meanwhile doesn't know
            if interrupts.wait(_LOOK_SECONDS / 2) > 1 or time.monotonic() > ends:
                self._give_back(crew)
                return

    def _give_back(self, crew: list["_Member"]) -> None:
        import ray

        log.warning("stopped with rows in progress: returning them to the queue", extra={"event": "abandoned"})
        given = [member.abandon() for member in crew if member.is_running]
        _, left = ray.wait(given, num_returns=len(given), timeout=_GIVE_BACK_SECONDS) if given else ([], [])
        if left:
            log.warning(
                "%d workers don't answer: others take over their rows when the leases end",
                len(left),
                extra={"event": "not_given_back"},
            )


class _Member:
    """One actor, and the call that is its work."""

    def __init__(self, actor: Any, order: Order) -> None:  # noqa: ANN401 - Ray makes the class
        self._actor = actor
        self._order = order
        self._due: float | None = None
        self._waited = 0.0
        self._ready: ObjectRef[Any] = actor.is_ready.remote()
        self._start()

    def _start(self) -> None:
        self._due, self._started = None, time.monotonic()
        self._work: ObjectRef[Any] | None = self._actor.run.remote(self._order)

    @property
    def is_placed(self) -> bool:
        """Whether it has, or had, a place on a machine."""
        import ray

        return bool(ray.wait([self._ready], timeout=0)[0])

    @property
    def is_running(self) -> bool:
        """Whether it has a place, and its work hasn't ended."""
        return self._work is not None and self.is_placed and self._ended() is None

    def look(self) -> str | None:
        """Starts it again if that is due. Returns how it ended, if it did since the last call.

        Raises:
            errors.ConfigurationError: Ray cannot start it at all.
        """
        if self._due is not None and self._due <= time.monotonic():
            self._start()
        ended = self._ended()
        if ended is not None:
            self._work = None
            self._waited = supervisor.wait_seconds(self._waited, ran_seconds=time.monotonic() - self._started)
            self._due = time.monotonic() + self._waited
        return ended

    def stop(self) -> None:
        """Asks it to finish what it holds and end."""
        self._due = None
        if self._work is not None:
            self._actor.stop.remote()

    def abandon(self) -> "ObjectRef[Any]":
        """Asks it to give its rows back at once."""
        given_back: ObjectRef[Any] = self._actor.abandon.remote()
        return given_back

    def kill(self) -> None:
        """Ends its process, and lets Ray start no other."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            ray.kill(self._actor)

    def _ended(self) -> str | None:
        """Returns how the call ended, or None if it hasn't."""
        import ray

        if self._work is None or not ray.wait([self._work], timeout=0)[0]:
            return None
        try:
            said: str = ray.get(self._work)
        except ray.exceptions.RayTaskError as error:
            return _line(error.cause or error)
        except (ray.exceptions.RayActorError, ray.exceptions.RuntimeEnvSetupError) as error:
            raise errors.ConfigurationError(
                f"Ray cannot start a worker: {_line(error)} Each machine needs Python, Ray and pg-semantic-index in "
                "the versions of this one: install them in its image, or with --runtime-env."
            ) from error
        return said


def _line(error: BaseException) -> str:
    """Returns the last line of an error's message, which has the cause where Ray quotes a traceback; with a period."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".") + "."
