"""Nothing more is computed for a client that has closed its connection, as the web page does when a stroke goes on."""

import socket
import threading
from urllib.parse import urlsplit

import httpx
import pytest

from service.encoding.model import EncodingModel
from service.http.clients import HAS_LEFT
from tests.service.conftest import serving, wait_until


def request(path, content, content_type):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


@pytest.mark.parametrize(("path", "leaves"), [("/v1/search", True), ("/v1/photos", False)])
def test_a_search_is_given_up_and_a_change_is_not(own_gallery, sketch, monkeypatch, path, leaves):
    begun, go_on, encoded = threading.Event(), threading.Event(), []
    decode, encode = EncodingModel._decode, EncodingModel._encode

    def slow(*arguments):
        begun.set()
        assert go_on.wait(60)
        if leaves:
            wait_until(HAS_LEFT.get())
        return decode(*arguments)

    def counted(self, modality, images):
        encoded.append(modality)
        return encode(self, modality, images)

    with serving(gallery=own_gallery, anonymous="write") as url:
        monkeypatch.setattr(EncodingModel, "_decode", slow)
        monkeypatch.setattr(EncodingModel, "_encode", counted)
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as client:
            client.sendall(request(path, sketch, "image/png"))
            assert begun.wait(60)
        go_on.set()
        ended = f'method="POST",route="{path}",status="{400 if leaves else 201}"'
        wait_until(lambda: ended in httpx.get(f"{url}/metrics", timeout=60).text)
        assert encoded == ([] if leaves else ["photo"])
        monkeypatch.undo()
        answer = httpx.post(f"{url}/v1/search", content=sketch, headers={"Content-Type": "image/png"}, timeout=60)
        assert answer.status_code == 200, answer.text  # the place is free again
