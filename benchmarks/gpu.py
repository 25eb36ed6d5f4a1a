"""Encoding speed on a CUDA device: as `benchmarks.encode`, on more texts; skipped without a device.

    make bench-gpu

The 2,000 texts of `benchmarks.encode` twenty times over, each made different from the others.
"""

import json

import torch

from benchmarks import encode

_TIMES = 20


def main() -> None:
    """Prints the figures, the last line as JSON."""
    if not torch.cuda.is_available():
        print(json.dumps({"skipped": "no CUDA device"}))
        return
    texts = [f"{number}. {text}" for number in range(_TIMES) for text in encode.texts()]
    print(json.dumps(encode.measure(texts) | {"card": torch.cuda.get_device_name()}))


if __name__ == "__main__":
    main()
