"""How the worker process obeys signals, whatever its main thread is at."""

import subprocess
import sys

SCRIPT = """
import os, signal, threading
from pg_semantic.cli import worker

stop = threading.Event()
worker._obey_signals(None, stop, 10_000)
with stop._cond:  # where an idle worker is when it begins and ends to wait for work
    os.kill(os.getpid(), signal.SIGTERM)
print(stop.wait(60), flush=True)
os._exit(0)
"""


def test_a_signal_is_obeyed_while_the_worker_begins_to_wait_for_work() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "True\n", done.stderr
