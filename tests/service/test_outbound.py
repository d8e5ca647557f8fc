"""A service that starts, embeds and searches talks to nobody but its clients."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

_PROGRAM = """
import base64, json, os, socket, sys
from pathlib import Path

asked = []

def record(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        asked.append(str(arguments[0]))
    elif event in ("socket.connect", "socket.sendto"):
        asked.append(str(arguments[1][0]))

sys.addaudithook(record)

import httpx
from tests.service.conftest import serving

def peers():
    "Addresses that sockets of this process are connected to, those of native code too."
    links = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
             if os.path.lexists(f"/proc/self/fd/{name}")]
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if f"socket:[{fields[9]}]" in links:
                yield fields[2].split(":")[0]

gallery, sketch = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
with serving(gallery=gallery, runtime="onnx") as url:
    image = base64.b64encode(sketch).decode()
    with httpx.Client(base_url=url) as client:
        found = client.post("/v1/search", json={"image": image, "limit": 3})
        embedded = client.post("/v1/embeddings", json={"input": image})
        connected = sorted(set(peers()))
    assert found.status_code == embedded.status_code == 200
print(json.dumps({"asked": sorted(set(asked)), "connected": connected}))
"""
_NOBODY = {"00000000", "0" * 32}  # of a socket that listens
_THIS_MACHINE = {"0100007F", "0000000000000000FFFF00000100007F"}


def test_nobody_is_told(gallery_path, shapes, tmp_path):
    sketch = shapes / "sketch" / "circle" / "circle-1.png"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(gallery_path), str(sketch)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout.splitlines()[-1])
    assert seen["asked"] == ["127.0.0.1"]
    assert set(seen["connected"]) - _NOBODY <= _THIS_MACHINE
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert any(name.endswith(".onnx") for name in kept)  # ONNX Runtime was used
    assert not {"deviceid", "onnxruntime.db"} & set(kept)  # an identity, and reports that wait to be sent
