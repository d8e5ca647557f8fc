"""The server process."""

import logging
import socket
from contextlib import closing

import torch
import uvicorn

from service.app import create_app
from service.encoding.plan import make_plan
from service.errors import AddressInUse, ServiceError
from service.http.observability import JsonFormatter
from service.http.protocol import patient_protocol
from service.settings import ServiceSettings
from training.base.command_line import Options
from training.model.devices import resolve_device

__all__ = ["serve"]

logger = logging.getLogger("svdraw.server")

_KEEP_ALIVE_SECONDS = 30
_BACKLOG = 2048


def serve(*, settings: Options[ServiceSettings]) -> None:
    """Serves until SIGINT or SIGTERM, then lets running requests finish; until the gallery is loaded, requests get 503.

    Raises:
        GalleryError: if the gallery cannot be served.
        AddressInUse: if the port is already in use.
        KeysError: if the file of API keys cannot be used.
        ServiceError: if the service did not start for another reason.
    """
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter())
    logging.captureWarnings(True)  # else libraries write theirs, as of damaged pictures, past the formatter
    plan = make_plan(settings, resolve_device(settings.device))
    torch.set_num_threads(plan.threads)  # each worker preprocesses its own image; several threads each would compete
    failures: list[Exception] = []

    def stop(failure: Exception) -> None:
        failures.append(failure)
        server.should_exit = True

    with closing(_listen(settings.host, settings.port)) as listener:
        host, port = listener.getsockname()[:2]
        config = uvicorn.Config(
            create_app(settings, on_failure=stop),
            http=patient_protocol(settings.header_seconds, settings.send_seconds),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.trusted_proxies,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
        logger.info("svdraw serves %s at http://%s:%d", settings.gallery, f"[{host}]" if ":" in host else host, port)
        server = uvicorn.Server(config)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises the signal again after a clean shutdown
            logger.info("stopped")
    if failures:
        raise failures[0]
    if not server.started:
        raise ServiceError("the service did not start; its log says why")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm only if the protocol is named; with it, kept-alive answers take 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressInUse(f"cannot listen on {host} port {port} ({error.strerror}); choose another --port") from error
    return listener
