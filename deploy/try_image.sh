#!/usr/bin/env bash
# Goes through the steps of the Dockerfile without a container engine, in a clean folder, and starts the service on a
# gallery as an unprivileged user.
#
#   deploy/try_image.sh GALLERY [SITE_PACKAGES]
#
# Installs every dependency anew, as locked in deploy/image.lock, or with SITE_PACKAGES takes those of an existing
# environment. PYTHON=... names an interpreter that everyone may run.
set -euo pipefail

gallery=$(realpath "$1")
dependencies=${2:-}
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
python=${PYTHON:-python3}
runner=()
if [ "$(id -u)" -eq 0 ]; then
    runner=(setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set -all)
fi
executable=$("$python" -c "import sys; print(sys.executable)")
(cd / && "${runner[@]}" "$executable" -c "") \
    || { echo "user 10001 may not run $executable; name another: PYTHON=/usr/bin/python3 $0 ..." >&2; exit 1; }
work=$(mktemp --directory /tmp/svdraw-image.XXXXXX)
chmod 755 "$work"
service=
finish() {
    [ -z "$service" ] || kill "$service" 2> /dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# The build context: what .dockerignore lets through.
mkdir "$work/build" "$work/data"
(cd "$source" && sed -n 's/^!//p' .dockerignore | xargs cp --recursive --parents --target-directory "$work/build")
find "$work/build" -name __pycache__ -prune -exec rm -rf {} +
cd "$work/build"

"$python" -m venv "$work/venv"
if [ -n "$dependencies" ]; then
    site=$("$work/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
    echo "$dependencies" > "$site/dependencies.pth"
else
    "$work/venv/bin/pip" install --quiet --require-hashes --only-binary :all: --requirement deploy/image.lock
fi
"$python" -m venv "$work/builder"
"$work/builder/bin/pip" install --quiet --require-hashes --only-binary :all: --requirement deploy/build.lock
"$work/builder/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
"$work/venv/bin/pip" install --quiet --no-deps --ignore-installed dist/*.whl
rm -rf "$work/build"

# As in the image: user 10001, no new privileges, a home that is only /data, no access to the sources.
cd "$work/data"
cp -r "$gallery" gallery
mkdir cache
[ "$(id -u)" -ne 0 ] || chown -R 10001:10001 "$work/data"
port=$("$python" -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
env -i PATH="$work/venv/bin:/usr/bin:/bin" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/nonexistent \
    XDG_CACHE_HOME="$work/data/cache" MPLCONFIGDIR="$work/data/cache" "${runner[@]}" \
    svdraw serve --gallery gallery --port "$port" > service.log 2>&1 &
service=$!

check=$(sed -n 's/.*"\(from urllib.request .*\)"\]$/\1/p' "$source/Dockerfile" | sed "s/:8000/:$port/")
[ -n "$check" ] || { echo "the Dockerfile has no health check" >&2; exit 1; }
for _ in $(seq 300); do
    kill -0 "$service" 2> /dev/null || { cat service.log >&2; exit 1; }
    if "$python" -c "$check" 2> /dev/null; then
        ready=1
        break
    fi
    sleep 1
done
[ "${ready:-}" ] || { echo "not ready after five minutes" >&2; cat service.log >&2; exit 1; }
user=$(stat --format=%u "/proc/$service")
"$work/venv/bin/python" - "$port" << 'CHECK'
import sys
from service.client.rest import Client

with Client(f"http://127.0.0.1:{sys.argv[1]}") as client:
    assert client.search_like(client.photos(limit=1).photos[0].id, limit=3).results
CHECK
kill "$service"
wait "$service"
service=
echo "the image's steps work: the service answered as user $user and stopped in order"
