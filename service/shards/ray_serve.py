"""Shards on a Ray cluster: each is a deployment of Ray Serve, whose replicas have the shard's gallery open."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from index.parts.ray_connection import connect_to_ray
from service.errors import ServiceError
from service.settings import ServiceSettings
from service.shards.fleet import Caller, Outcome, ShardAway, outcome_of
from service.shards.shard import Shard
from training.base.errors import SvdrawError

__all__ = ["Replica", "application_name", "open_deployed"]

logger = logging.getLogger(__name__)

_HEALTH_SECONDS = 2.0  # between two checks of a replica, which are when it looks for new generations
_LOOK_SECONDS = 30.0  # in which a replica says what it was made with
_ONGOING = 64  # calls that a replica may have at once; the service has fewer threads
_THREADS = 8  # of a replica
_ATTEMPTS = 3  # to find a replica that does not die over a call
_VARIABLES = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}  # of a replica, which has threads of its own
_TRANSPORT = {  # calls that go straight to the replica, and not by way of Ray's object store, take half as long
    "_by_reference": False,
    "request_serialization": "pickle",
    "response_serialization": "pickle",
}
_WRITES = frozenset({"add", "remove", "describe"})  # must not be sent twice


class Replica:
    """One replica of a shard, in a process of Ray's.

    Args:
        path: the shard's gallery, which this machine must find there.
        device: see ``Searcher.open``.
        live_changes: see ``Shard``.
        release: version of this package.
    """

    def __init__(self, path: str, device: str, live_changes: int, release: str) -> None:
        self._arguments = (path, device, live_changes, release)
        self._shard = Shard(Path(path), device, live_changes)
        self._threads = ThreadPoolExecutor(_THREADS)

    async def arguments(self) -> tuple[Any, ...]:
        """What it was made with."""
        return self._arguments

    async def call(self, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
        """Calls a method of the shard; what it returns are the fields of an ``Outcome``."""
        outcome = await self._run(lambda: outcome_of(self._shard, method, *args, **options))
        return tuple(outcome)

    async def check_health(self) -> None:
        """Looks for a new generation. A replica that cannot serve one goes on with the one it has.

        Raises:
            RuntimeError: if another gallery is in the place of the shard; Ray then starts the replica anew.
        """
        if self._shard.is_replaced:
            raise RuntimeError(f"{self._arguments[0]} was replaced by another gallery")
        try:
            await self._run(self._shard.tend)
        except SvdrawError as error:
            logger.error("%s", error)

    async def _run(self, function: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


class _ReplicaCaller:
    """Sends calls to whichever replica of a shard is free.

    Args:
        handle: of the shard's application.
        unforeseen: the kind of errors that a replica raises itself, which are no sign that it is lost.
        lost: the kinds of errors that say that a replica is lost, or that there is none.
    """

    def __init__(self, handle: Any, unforeseen: type[Exception], lost: tuple[type[Exception], ...]) -> None:
        self._handle = handle
        self._errors = unforeseen, lost

    def call(self, method: str, *args: Any, **options: Any) -> "_ReplicaPending":
        return _ReplicaPending(self._handle, *self._errors, method, (method, args, options))

    def close(self) -> None:
        """Nothing: the replicas serve whoever comes next."""


class _ReplicaPending:
    """A call that is sent again if the replica dies over it."""

    def __init__(
        self,
        handle: Any,
        unforeseen: type[Exception],
        lost: tuple[type[Exception], ...],
        method: str,
        call: tuple[Any, ...],
    ) -> None:
        self._handle = handle
        self._unforeseen, self._lost = unforeseen, lost
        self._call = call
        self._attempts = 1 if method in _WRITES else _ATTEMPTS
        self._response = self._send()

    def outcome(self, seconds: float) -> Outcome:
        end = time.monotonic() + seconds
        while True:
            self._attempts -= 1
            try:
                return Outcome(*self._response.result(timeout_s=max(0.0, end - time.monotonic())))
            except TimeoutError as error:
                self._response.cancel()
                raise ShardAway(f"no answer in {seconds:.1f} s") from error
            except self._unforeseen:
                raise
            except self._lost as error:
                if not self._attempts:
                    raise ShardAway(str(error).splitlines()[0]) from error
            self._response = self._send()

    def _send(self) -> Any:
        try:
            return self._handle.call.remote(*self._call)
        except self._lost as error:
            raise ShardAway(str(error).splitlines()[0]) from error


def open_deployed(settings: ServiceSettings, folders: Sequence[Path]) -> list[Caller]:
    """Deploys shards on a cluster, or takes over those that are deployed there already.

    Args:
        settings: settings of the service: cluster, replicas, device and limits.
        folders: the shards' galleries.

    Raises:
        PartsError: if there is no such cluster.
        ServiceError: if a shard cannot be deployed.
    """
    assert settings.ray is not None
    ray = connect_to_ray(settings.ray, "ray.serve")
    serve = ray.serve
    serve.start(proxy_location="Disabled")
    there = serve.status().applications
    deployment = serve.deployment(
        num_replicas=settings.replicas,
        max_ongoing_requests=_ONGOING,
        health_check_period_s=_HEALTH_SECONDS,
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": settings.replica_processors, "runtime_env": {"env_vars": _VARIABLES}},
    )(Replica)
    arguments = ("cpu", settings.live_changes, version("svdraw"))
    targets = [
        serve.RunTarget(deployment.bind(str(folder), *arguments), name=application_name(folder), route_prefix=None)
        for folder in folders
        if not _is_deployed(serve, application_name(folder), there, settings.replicas, (str(folder), *arguments))
    ]
    try:
        if targets:
            serve.run_many(targets)
        handles = [serve.get_app_handle(application_name(folder)) for folder in folders]
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise ServiceError(f"the shards cannot be deployed on {settings.ray}: {str(error).splitlines()[0]}") from error
    lost = (ray.exceptions.RayError, serve.exceptions.RayServeException, import_module("grpc").RpcError)
    return [_ReplicaCaller(handle.options(**_TRANSPORT), ray.exceptions.RayTaskError, lost) for handle in handles]


def _is_deployed(serve: Any, name: str, there: Mapping[str, Any], replicas: int, arguments: tuple[Any, ...]) -> bool:
    """Whether replicas are there as they should be; to deploy them again would start each of them anew."""
    application = there.get(name)
    if application is None or application.status != "RUNNING":
        return False
    states = application.deployments[Replica.__name__].replica_states
    if sum(states.values()) != replicas:
        return False
    try:
        handle = serve.get_app_handle(name)
        return bool(handle.arguments.remote().result(timeout_s=_LOOK_SECONDS) == arguments)
    except (TimeoutError, RuntimeError, import_module("ray").exceptions.RayError) as error:
        logger.info("%s is deployed again: %s", name, str(error).splitlines()[0])
        return False


def application_name(folder: Path) -> str:
    """The name of a shard's application, by which other services for the same shards find it."""
    digest = hashlib.sha256(str(folder.parent).encode()).hexdigest()[:8]
    return f"svdraw-{digest}-{folder.name}"
