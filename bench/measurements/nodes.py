"""A Ray cluster of two nodes on this machine."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["UMASKS", "Cluster", "command", "kill_node", "parts_by_node", "started_cluster"]

ROOT = Path(__file__).parents[2]
HOSTS = ("127.0.0.2", "127.0.0.3")
UMASKS = (0o022, 0o077)  # so that the mode of a file tells which node has written it
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "a-token-of-these-tests-alone-0123456789",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "10",
    "RAY_worker_niceness": "0",  # Ray's own is 15, with which other work on the machine goes first
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}
_LEAN = ["--object-store-memory=100000000", "--no-monitor", "--include-log-monitor=false"]
_PATIENCE = 300.0  # seconds; they only keep a test that would hang from hanging


class Cluster(NamedTuple):
    """Where a cluster answers, the sessions of its nodes, and the environment of those that use it."""

    address: str
    nodes: list[int]
    environment: dict[str, str]

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Runs ``svdraw`` to its end."""
        return subprocess.run(
            command(*words), capture_output=True, text=True, check=False, env=self.environment, timeout=_PATIENCE
        )


def command(*words: object) -> list[str]:
    return [sys.executable, "-c", "import sys; from service.commands import main; sys.exit(main())", *map(str, words)]


@contextmanager
def started_cluster(*processors: int) -> Iterator[Cluster]:
    """Starts two nodes with so many processors, and kills what is left of them at the end."""
    environment = os.environ | ENVIRONMENT
    with socket.create_server((HOSTS[0], 0)) as server:
        address = f"{HOSTS[0]}:{server.getsockname()[1]}"
    with ExitStack() as stack:  # the path of the folder must be short enough for the sockets in it
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", f"--temp-dir={folder}"]
        starting = []
        for place, host, umask, cores in zip((head, [f"--address={address}"]), HOSTS, UMASKS, processors, strict=True):
            words = [*place, f"--node-ip-address={host}", f"--num-cpus={cores}", *_LEAN]
            node = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *words],
                stdout=stack.enter_context((Path(folder) / f"{host}.log").open("w+")),
                stderr=subprocess.STDOUT,
                env=environment,
                umask=umask,
                start_new_session=True,
            )
            stack.callback(kill_node, node.pid)
            starting.append(node)
        for node, host in zip(starting, HOSTS, strict=True):
            assert node.wait(_PATIENCE) == 0, (Path(folder) / f"{host}.log").read_text()
        yield Cluster(address, [node.pid for node in starting], environment)


def kill_node(session: int) -> None:
    """Kills a node with all its processes, as if its machine were lost."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            if int(path.read_text().rpartition(")")[2].split()[3]) == session:
                os.kill(int(path.parent.name), signal.SIGKILL)


def parts_by_node(parts: Path) -> list[int]:
    """The number of parts that each node has written, by their modes."""
    modes = [path.stat().st_mode & 0o777 for path in parts.glob("part-*")]
    return [modes.count(0o666 & ~umask) for umask in UMASKS]
