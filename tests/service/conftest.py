import shutil
import threading
import time
from contextlib import closing, contextmanager

import pytest
import uvicorn
from fastapi.testclient import TestClient

from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import list_photos
from service.app import create_app
from service.engine.lifecycle import Engine
from service.http.connections import Connections
from service.http.listening import listen
from service.http.metrics import Metrics
from service.http.protocol import patient_protocol
from service.settings import ServiceSettings


def wait_until(condition, seconds=60):
    """Waits until something is so; the seconds only keep a test that would hang from hanging."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def gallery_path(tiny_bundle, shapes, tmp_path_factory):
    """A real gallery of 24 photos behind the tiny bundle; not to be changed.

    Photos take in no neighbours, so that scores follow from the catalogue.
    """
    gallery = Gallery.create(tmp_path_factory.mktemp("service") / "gallery", tiny_bundle)
    gallery.configure(None, None, 0)
    index_photos(gallery, list_photos(shapes / "photo"), "cpu")
    gallery.close()
    return gallery.path


@pytest.fixture
def own_gallery(gallery_path, tmp_path):
    """A copy of the gallery to change."""
    return shutil.copytree(gallery_path, tmp_path / "gallery", ignore=shutil.ignore_patterns("queries.sqlite"))


@pytest.fixture
def start(gallery_path):
    """Starts apps with settings; the gallery is loaded before they answer."""
    clients = []

    def start(**options):
        settings = ServiceSettings(
            **{"gallery": gallery_path, "device": "cpu", "runtime": "torch", "reload_seconds": 0} | options
        )
        client = TestClient(create_app(settings, Engine(settings, Metrics())))
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture(scope="session")
def client(gallery_path):
    settings = ServiceSettings(
        gallery=gallery_path, device="cpu", runtime="torch", max_body_bytes=100_000, max_pixels=1_000_000
    )
    with TestClient(create_app(settings, Engine(settings, Metrics()))) as client:
        yield client


@pytest.fixture(scope="session")
def sketch(shapes):
    return (shapes / "sketch" / "circle" / "circle-1.png").read_bytes()


@contextmanager
def serving(*, connections=1000, **options):
    """Runs the service on a socket of its own, in a thread; gives its URL."""
    settings = ServiceSettings(**{"device": "cpu", "runtime": "torch", "reload_seconds": 0} | options)
    app = create_app(settings, Engine(settings, Metrics()))
    with closing(listen("127.0.0.1", 0)) as listener:
        proxies, grace = settings.trusted_proxies, settings.drain_seconds
        protocol = patient_protocol(
            settings.header_seconds,
            settings.send_seconds,
            settings.min_client_rate,
            Connections(connections, proxies, app.state.metrics),
        )
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            log_config=None,
            forwarded_allow_ips=proxies,
            timeout_graceful_shutdown=grace,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            assert server.started
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
