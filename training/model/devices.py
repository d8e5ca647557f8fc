"""The choice of the computing device."""

import torch

from training.base.errors import TrainingError

__all__ = ["resolve_device"]


def resolve_device(name: str = "auto") -> torch.device:
    """Finds the device that a setting names.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        TrainingError: if the name is unknown or the machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainingError(f"device {name} is not available on this machine; use --device cpu")
    return device
