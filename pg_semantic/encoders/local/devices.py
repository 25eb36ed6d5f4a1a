"""Which devices of this machine encoders can run on, asked without loading torch into this process."""

import importlib.util
import subprocess
import sys

from pg_semantic import errors

_COUNT = "import torch; print(torch.cuda.device_count())"


def cuda() -> list[str]:
    """The CUDA devices that torch sees, as ``cuda:0``; none without torch.

    Takes as long as importing torch does. Raises `errors.EncoderError` when torch is there and can not be imported.
    """
    if importlib.util.find_spec("torch") is None:
        return []
    asking = [sys.executable, "-c", _COUNT]
    done = subprocess.run(asking, capture_output=True, text=True, check=False)  # noqa: S603 - nothing in it is given
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise errors.EncoderError(f"torch can not be asked for its devices ({said}): name them, as cuda:0,cuda:1.")
    return [f"cuda:{number}" for number in range(int(done.stdout))]
