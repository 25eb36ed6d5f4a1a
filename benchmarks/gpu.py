"""Measures encoding speed on a CUDA device, as `benchmarks.encode` does, on more texts. Does nothing without a device.

    make bench-gpu

The texts are 20 distinct variants of the 2,000 texts of `benchmarks.encode`.
"""

import json

import torch

from benchmarks import encode

_TIMES = 20


def main() -> None:
    """Prints the results, with JSON as the last line."""
    if not torch.cuda.is_available():
        print(json.dumps({"skipped": "no CUDA device"}))
        return
    texts = [f"{number}. {text}" for number in range(_TIMES) for text in encode.texts()]
    print(json.dumps(encode.measure(texts) | {"card": torch.cuda.get_device_name()}))


if __name__ == "__main__":
    main()
