"""Lists the devices that encoders can run on, without importing torch into this process."""

import importlib.util
import subprocess
import sys

from pg_semantic import errors

_COUNT = "import torch; print(torch.cuda.device_count())"


def cuda() -> list[str]:
    """Lists the CUDA devices that torch finds. Takes as long as importing torch.

    Returns:
        Device names such as ``cuda:0``; empty if torch isn't installed.

    Raises:
        errors.EncoderError: Torch is installed but cannot be imported.
    """
    if importlib.util.find_spec("torch") is None:
        return []
    asking = [sys.executable, "-c", _COUNT]
    done = subprocess.run(asking, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise errors.EncoderError(f"torch failed to list its devices ({said}): name them, such as cuda:0,cuda:1.")
    return [f"cuda:{number}" for number in range(int(done.stdout))]
