"""The server process."""

import logging
import resource
import socket
from contextlib import closing, suppress

import torch
import uvicorn

from service.app import create_app
from service.errors import AddressInUse, ServiceError
from service.http.connections import Connections
from service.http.log_stream import LogStream
from service.http.metrics import Metrics
from service.http.observability import JsonFormatter
from service.http.protocol import patient_protocol
from service.settings import ServiceSettings
from training.base.command_line import Options
from training.inference.plan import make_plan
from training.model.devices import resolve_device

__all__ = ["serve"]

logger = logging.getLogger("svdraw.server")

_KEEP_ALIVE_SECONDS = 30
_BACKLOG = 2048
_FILES = 16_384  # that may be open
_PART_OF_FILES = 8  # one client may have an eighth of them as connections
_LOG_SECONDS = 2.0  # for the last lines of the log; longer if nobody reads it would keep the process from ending


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
    plan = make_plan(resolve_device(settings.device))
    torch.set_num_threads(plan.threads)  # each worker preprocesses its own image; several threads each would compete
    failures: list[Exception] = []
    app = create_app(settings, on_failure=lambda failure: stop(failure))
    streams = _log_without_waiting(app.state.metrics)

    def stop(failure: Exception) -> None:
        failures.append(failure)
        server.should_exit = True

    with closing(_listen(settings.host, settings.port)) as listener:
        host, port = listener.getsockname()[:2]
        config = uvicorn.Config(
            app,
            http=patient_protocol(
                settings.header_seconds,
                settings.send_seconds,
                settings.min_client_rate,
                Connections(_open_files() // _PART_OF_FILES, settings.trusted_proxies, app.state.metrics),
            ),
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
        finally:
            for stream in streams:
                stream.drain(_LOG_SECONDS)
    if failures:
        raise failures[0]
    if not server.started:
        raise ServiceError("the service did not start; its log says why")


def _open_files() -> int:
    """Raises the number of files, and with it of connections, that may be open, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return _FILES if soft == resource.RLIM_INFINITY else min(soft, _FILES)


def _log_without_waiting(metrics: Metrics) -> list[LogStream]:
    """Has the log written by threads of its own where it goes to a file or a pipe."""
    streams = []
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            with suppress(OSError):  # a stream without a file
                streams.append(LogStream(handler.stream, metrics.dropped_lines.inc))
                handler.setStream(streams[-1])
    return streams


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
