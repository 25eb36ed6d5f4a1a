"""In which precision to train: `is_halved`."""

from pg_semantic import settings
from pg_semantic.encoders.local import backends


def is_halved(device: str) -> bool:
    """Returns whether to multiply in bfloat16, with weights in 32 bits: if the device can, and settings allow it.

    Emulated, training would be slower.

    Args:
        device: The type of device, such as ``cpu`` or ``cuda``.
    """
    torch_only = settings.load().model_copy(update={"backend": "torch"})
    return backends.candidates(device, torch_only, has_openvino=False)[0].precision == "bfloat16"
