"""A server process: the only one, or one of several; see ``service.processes``."""

import logging
import resource
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from multiprocessing.synchronize import Event

import torch
import uvicorn

from service.app import create_app, open_engine
from service.engine.interface import AnyEngine
from service.errors import ServiceError
from service.http.connections import Connections
from service.http.listening import SharedListener, listen
from service.http.log_stream import LogStream
from service.http.metrics import Metrics
from service.http.observability import JsonFormatter
from service.http.protocol import patient_protocol
from service.settings import ServiceSettings

__all__ = ["serve", "serve_share"]

logger = logging.getLogger("svdraw.server")

_KEEP_ALIVE_SECONDS = 30
_FILES = 16_384  # that may be open
_PART_OF_FILES = 8  # one client may have an eighth of them as connections
_LOG_SECONDS = 2.0  # for the last lines of the log; longer if nobody reads it would keep the process from ending


def serve(*, settings: ServiceSettings) -> None:
    """Serves in this process alone.

    Raises:
        GalleryError: if the gallery cannot be served.
        AddressInUse: if the port is already in use.
        KeysError: if the file of API keys cannot be used.
        ServiceError: if the service did not start for another reason.
    """
    with closing(listen(settings.host, settings.port)) as listener:
        host, port = listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _prepare(settings)
        logger.info("svdraw serves %s at %s", settings.gallery, address)
        _run(settings, listener)


def serve_share(
    settings: ServiceSettings, listener: SharedListener, *, leads: bool, late: bool, leader_is_ready: Event
) -> None:
    """Serves beside other processes.

    Args:
        settings: settings of the service.
        listener: the socket that they share.
        leads: whether this process does what is to be done once for all of them.
        late: whether it accepts connections only when it can answer them, because others answer meanwhile.
        leader_is_ready: set by the leader. The others wait for it: else one that was ready sooner would say so, and the
            next request would get 503 from the leader.

    Raises:
        GalleryError: see ``serve``; KeysError and ServiceError likewise.
    """
    _prepare(settings)
    loaded = open_engine(settings, Metrics(), leads=leads) if late else None
    if not leads:
        leader_is_ready.wait()
    _run(settings, listener, loaded, SharedListener.at_once, leader_is_ready.set)


def _prepare(settings: ServiceSettings) -> None:
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter())
    logging.captureWarnings(True)  # else libraries write theirs, as of damaged pictures, past the formatter
    torch.set_num_threads(1)  # each worker preprocesses its own image; several threads each would compete


def _run(
    settings: ServiceSettings,
    listener: socket.socket,
    loaded: AnyEngine | None = None,
    backlog: int = 2048,
    on_ready: Callable[[], None] | None = None,
) -> None:
    failures: list[Exception] = []
    app = create_app(settings, loaded, on_failure=lambda failure: stop(failure), on_ready=on_ready)
    streams = _log_without_waiting(app.state.metrics)

    def stop(failure: Exception) -> None:
        failures.append(failure)
        server.should_exit = True

    config = uvicorn.Config(
        app,
        http=patient_protocol(
            settings.header_seconds,
            settings.send_seconds,
            settings.min_client_rate,
            Connections(_open_files() // _PART_OF_FILES, settings.trusted_proxies, app.state.metrics),
        ),
        loop="asyncio",  # whatever else is installed
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
        backlog=backlog,
    )
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
