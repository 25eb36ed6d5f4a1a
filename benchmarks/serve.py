"""Measures the service under load: single-query embeddings from one client, from 64 concurrent clients, and from 640.

    make bench-serve

The service is a process of its own with the real all-MiniLM-L6-v2. The clients are another process, on the same cores.
The queries are what the examples of tldr pages are for. They are all distinct, so that no vector is cached. Rounds of
one client and of 64 clients alternate.

``ratio_vs_serial`` (goal 3) is the throughput of 64 clients over that of one in the same round, as the median of
rounds. 640 clients are more than the service accepts at once: ``refused`` counts the requests that got status 429 and
were retried after a second, and ``overload_ratio`` is the throughput over that of 64 clients. ``peak_mib`` is the
memory of the process after the rounds, ``overload_peak_mib`` after the overload. At the end, SIGTERM arrives while 64
requests of 20 texts are in progress: ``lost`` (goal 0) is the number of those that weren't answered.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import corpus, http, moments, scifact

CLIENTS, OVERLOAD, ROUNDS = 64, 640, 3
PATH = "/v1/embeddings"
_PORT = re.compile(r"serving on http://127\.0\.0\.1:(\d+)")


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Measures the service under load.")
    options.add_argument("--seconds", type=float, default=4, help="length of each phase, in seconds")
    options.add_argument("--encoder", default=scifact.ENCODER)
    given = options.parse_args()
    with running(given.encoder) as (process, port):
        print(json.dumps(asyncio.run(measure(process, port, encoder=given.encoder, seconds=given.seconds))))


async def measure(process: "subprocess.Popen[str]", port: int, *, encoder: str, seconds: float) -> dict[str, object]:
    """Runs all phases, one after the other."""
    bodies = queries(encoder)
    await http.load(port, bodies, path=PATH, clients=8, seconds=1)  # warm-up
    serial, together = [], []
    for _ in range(ROUNDS):
        serial.append(await http.load(port, bodies, path=PATH, clients=1, seconds=seconds / 2))
        together.append(await http.load(port, bodies, path=PATH, clients=CLIENTS, seconds=seconds))
        print(f"{serial[-1].rate:.0f}/s one at a time, {together[-1].rate:.0f}/s from {CLIENTS}")
    peak = peak_mib(process.pid)
    over = await http.load(port, bodies, path=PATH, clients=OVERLOAD, seconds=seconds)
    print(f"{over.rate:.0f}/s from {OVERLOAD}, answers by status: {over.statuses}")
    rate = statistics.median(one.rate for one in together)
    latencies = [one for answers in together for one in answers.latencies]
    ratios = [many.rate / one.rate for one, many in zip(serial, together, strict=True)]
    return {
        "serial_per_s": round(statistics.median(one.rate for one in serial)),
        "per_s": round(rate),
        "ratio_vs_serial": round(statistics.median(ratios), 2),
        "p50_ms": round(moments.quantile(latencies, 0.5) * 1000, 1),
        "p99_ms": round(moments.quantile(latencies, 0.99) * 1000, 1),
        "overload_ratio": round(over.rate / rate, 2),
        "overload_p99_ms": round(moments.quantile(over.latencies, 0.99) * 1000, 1),
        "refused": over.statuses.get(429, 0),
        "failed": sum(count for status, count in over.statuses.items() if status not in {200, 429}),
        "peak_mib": peak,
        "overload_peak_mib": peak_mib(process.pid),
        "lost": await lost_on_sigterm(process, port, bodies),
    }


async def lost_on_sigterm(process: "subprocess.Popen[str]", port: int, bodies: Iterator[dict[str, Any]]) -> int:
    """Counts the requests in progress at SIGTERM that aren't answered with vectors."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(http.connected(port)) for _ in range(CLIENTS)]
        asked = []
        for client in clients:
            texts = [next(bodies)["input"] for _ in range(20)]
            asked.append(asyncio.create_task(client.post(PATH, next(bodies) | {"input": texts})))
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)  # so the others were accepted too
        process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*asked, return_exceptions=True)
    code = await asyncio.to_thread(process.wait, 60)
    print(f"SIGTERM after {len(done)} of {CLIENTS} responses; exit code {code}")
    return sum(not isinstance(answer, http.Answer) or answer.status != 200 for answer in answers)


def queries(encoder: str) -> Iterator[dict[str, Any]]:
    """Yields requests for the vectors of distinct queries."""
    for number, text in enumerate(itertools.cycle(corpus.wishes())):
        given = text if number < len(corpus.wishes()) else f"{text} {number}"
        yield {"model": encoder, "input": given, "input_type": "query", "encoding_format": "base64"}


@contextlib.contextmanager
def running(encoder: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Runs the service as a process, and yields it with its port."""
    command = [sys.executable, "-m", "pg_semantic.cli", "serve", "--encoder", encoder, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, port_of(process)
        finally:
            process.kill()


def port_of(process: "subprocess.Popen[str]") -> int:
    """Returns the port that the service logs."""
    for line in process.stderr or ():
        if found := _PORT.search(line):
            return int(found[1])
    raise RuntimeError("The service did not start.")


def peak_mib(process: int) -> int:
    """Returns the peak memory of a process, in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
