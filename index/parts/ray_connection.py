"""The connection to a Ray cluster, which only those import who have one."""

import logging
import os
import socket
import warnings
from importlib import import_module
from typing import Any

from index.errors import PartsError

__all__ = ["connect_to_ray"]

_TOKEN = "RAY_AUTH_MODE"
_PATIENCE = 10.0  # seconds


def connect_to_ray(address: str, library: str) -> Any:
    """Returns Ray, connected to a cluster. A process stays connected to the first one.

    Args:
        address: of the cluster, such as ``10.0.0.1:6379``, or ``auto``.
        library: of Ray's to import, such as ``ray.data``.

    Raises:
        PartsError: if Ray is not installed, or there is no such cluster.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it imports warns
            ray = import_module("ray")
            import_module(library)
    except ModuleNotFoundError as error:
        raise PartsError(f'--ray needs {error.name}: pip install "svdraw[cluster]"') from error
    if ray.is_initialized():
        return ray
    _check_there(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        hint = "" if os.environ.get(_TOKEN) else f"; clusters with a token need {_TOKEN}=token"
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PartsError(f"no Ray cluster answers at {address}: {reason}{hint}") from error
    return ray


def _check_there(address: str) -> None:
    """Checks that something listens where a cluster is to be; Ray itself would try for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        if address == "auto":
            return
        raise PartsError(f"{address!r} is no address of a Ray cluster; give host:port, such as 10.0.0.1:6379, or auto")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise PartsError(f"no Ray cluster answers at {address}: {error}") from error
