"""Embedding jobs on a Ray cluster: Ray Data gives every actor the photos of one part, which it embeds and writes.

Actors write their parts themselves. A part has the name of its photos, so one that is embedded twice, because its
machine was lost before it said that it was done, is there once.
"""

import fcntl
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from index.errors import PartsError
from index.parts.embedding import EmbedReport, embed_rows, facts_of_model, not_yet_in, write_rows
from index.parts.folder import PartsFolder
from index.parts.ray_connection import connect_to_ray
from index.sources import Candidate
from training.inference.runners import build_runner
from training.model.bundle import load_bundle
from training.model.manifest import MANIFEST_NAME, WEIGHTS_NAME, local_folder

__all__ = ["Pool", "choose_pool", "embed_on_cluster"]

logger = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds
_PAUSE = 0.5  # seconds between two looks at what is free


class Pool(NamedTuple):
    """Actors of a job: how many, and the processors and GPUs that each one gets."""

    actors: int
    processors: int
    gpus: int


def embed_on_cluster(
    photos: Sequence[Candidate],
    model: Path,
    out: str,
    address: str,
    *,
    max_pixels: int,
    part_size: int,
    processors: int = 1,
    gpus: bool | None = None,
) -> EmbedReport:
    """Embeds photos into parts on a Ray cluster; see ``embed_photos``.

    Every machine needs svdraw, and must find photos and parts under the same paths or URIs. The model is sent there.

    Args:
        photos: to embed.
        model: the model bundle.
        out: folder of the parts.
        address: of the cluster, such as ``10.0.0.1:6379``, or ``auto``.
        max_pixels: see ``read_image``.
        part_size: number of photos in a part.
        processors: that each actor gets.
        gpus: whether each actor gets a GPU; if the cluster has any when omitted.

    Raises:
        PartsError: if there is no such cluster, it has too little to run the job, or a part cannot be written.
        ModelMismatch: if the folder has parts of another model.
        BundleError: if the model bundle cannot be used.
    """
    facts, folder = facts_of_model(model), PartsFolder(out)
    waiting = not_yet_in(folder, facts, photos)
    known, started = len(photos) - len(waiting), time.monotonic()
    if not waiting:
        return EmbedReport(0, 0, known, 0.0)
    tasks = [waiting[start : start + part_size] for start in range(0, len(waiting), part_size)]
    ray = connect_to_ray(address, "ray.data")
    ray.data.DataContext.get_current().enable_progress_bars = os.isatty(2)
    try:
        pool = _await_pool(ray.available_resources, len(tasks), processors, gpus)
        logger.info("%d actors with %d processors and %d GPUs each, %d parts", *pool, len(tasks))
        device = "cuda" if pool.gpus else "cpu"
        done = (
            ray.data.from_items([{"photos": json.dumps(task)} for task in tasks], override_num_blocks=len(tasks))
            .map_batches(
                _Embedder,
                batch_size=1,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(size=pool.actors),
                num_cpus=pool.processors,
                num_gpus=pool.gpus,
                fn_constructor_args=(ray.put(_files(model)), out, device, pool.processors, max_pixels, len(waiting)),
            )
            .take_all()
        )
    except ray.exceptions.RayError as error:
        raise PartsError(f"the job on {address} has failed: {_cause(error)}; run the same command to go on") from error
    finally:
        ray.shutdown()
    embedded, rejected = (sum(int(row[name]) for row in done) for name in ("embedded", "rejected"))
    return EmbedReport(embedded, rejected, known, time.monotonic() - started)


def choose_pool(resources: Mapping[str, float], tasks: int, processors: int, gpus: bool | None) -> Pool:
    """Chooses the actors of a job, and leaves a processor free for the tasks that feed them.

    Without one, Ray would wait for it for ever, and say nothing.

    Args:
        resources: that the cluster has free, by name.
        tasks: number of parts to make.
        processors: that each actor is to get.
        gpus: see ``embed_on_cluster``.

    Raises:
        PartsError: if there are too few.
    """
    free, free_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    with_gpu = free_gpus > 0 if gpus is None else gpus
    if with_gpu and not free_gpus:
        raise PartsError("the cluster has no free GPU; use --device cpu, or wait for the jobs that hold them")
    possible = (free - 1) // processors
    if possible < 1:
        raise PartsError(
            f"the cluster has {free} free processors, and {processors + 1} are needed: {processors} to embed and 1 to "
            "hand out photos; start more nodes, or wait for the jobs that hold them"
        )
    return Pool(min(possible, tasks, free_gpus if with_gpu else possible), processors, int(with_gpu))


def _await_pool(resources: Callable[[], Mapping[str, float]], tasks: int, processors: int, gpus: bool | None) -> Pool:
    """Chooses the actors of a job; what a job that was killed has held may take some seconds to become free."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return choose_pool(resources(), tasks, processors, gpus)
        except PartsError:
            if time.monotonic() > end:
                raise
        time.sleep(_PAUSE)


class _Embedder:
    """An actor: embeds the photos of a part and writes it.

    Args:
        files: the model bundle's files, by name.
        out: folder of the parts.
        device: to compute on.
        processors: that it may keep busy.
        max_pixels: see ``read_image``.
        images: number of photos of the whole job.
    """

    def __init__(
        self, files: Any, out: str, device: str, processors: int, max_pixels: int, images: int
    ) -> None:  # pragma: no cover - runs in processes of Ray's
        import ray

        self._cores = _claim_cores(processors)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in ray.get(files).items():
                (Path(folder) / name).write_bytes(content)
            self._facts = facts_of_model(Path(folder))
            self._runner = build_runner(load_bundle(Path(folder), device).photo, precision="fp32", images=images)
        self._folder = PartsFolder(out)
        self._max_pixels = max_pixels

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:  # pragma: no cover
        embedded = rejected = 0
        for text in batch["photos"]:
            photos = [Candidate(*fields) for fields in json.loads(str(text))]
            for rows in embed_rows(photos, self._runner, self._max_pixels, len(photos)):
                write_rows(self._folder, self._facts, rows)
                embedded, rejected = embedded + len(rows.photos), rejected + len(rows.rejected)
        return {"embedded": np.array([embedded]), "rejected": np.array([rejected])}


def _files(model: Path) -> dict[str, bytes]:
    """The files of a model bundle, which may be on a hub."""
    folder = local_folder(model)
    return {name: (folder / name).read_bytes() for name in (MANIFEST_NAME, WEIGHTS_NAME)}


def _cause(error: BaseException) -> str:
    """The first line of what went wrong in an actor."""
    while (cause := getattr(error, "cause", None) or error.__cause__) is not None:
        error = cause
    return (str(error) or type(error).__name__).splitlines()[0]


def _claim_cores(count: int) -> list[IO[str]]:
    """Keeps this process on cores that no other actor of this machine has, as long as the files are open.

    Without that, each actor would start threads for all cores. Where there are too few cores, it keeps all of them.
    """
    claimed = dict[int, IO[str]]()
    for core in sorted(os.sched_getaffinity(0)):
        file: IO[str] = (Path(tempfile.gettempdir()) / f"svdraw-core-{os.getuid()}-{core}.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        claimed[core] = file
        if len(claimed) == count:
            os.sched_setaffinity(0, set(claimed))
            return list(claimed.values())
    for file in claimed.values():
        file.close()
    return []
