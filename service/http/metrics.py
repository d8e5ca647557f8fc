"""Prometheus metrics of the service, in base units, in the app's own registry.

Several processes that serve together keep theirs in files of the folder that ``PROMETHEUS_MULTIPROC_DIR`` names, as
prometheus_client does then, and each tells those of all.
"""

import os
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

__all__ = ["Metrics"]

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All metrics of the service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "svdraw_request_duration_seconds",
            "Duration of requests.",
            ("method", "route", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "svdraw_search_stage_duration_seconds",
            "Duration of each stage of requests with images.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "svdraw_encoder_batch_size",
            "Images encoded in one batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.encoding = Histogram(
            "svdraw_encoder_batch_duration_seconds",
            "Duration of encoding one batch of images.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.waiting = self._gauge("svdraw_encoder_queue_size", "Requests waiting for a worker.", "livesum")
        self.decoders = self._gauge("svdraw_decoders", "Processes that decode images.", "livesum")
        self.decoder_starts = Counter(
            "svdraw_decoder_starts_total", "Processes that decode images, started so far.", registry=self.registry
        )
        self.decoder_kills = Counter(
            "svdraw_decoder_kills_total",
            "Images whose decoder passed a limit, crashed or was killed, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.photos = self._gauge("svdraw_gallery_photos", "Photos in the served generation.", "livemostrecent")
        self.generation = self._gauge("svdraw_gallery_generation", "Number of the served generation.", "livemax")
        self.changes = self._gauge(
            "svdraw_gallery_live_changes", "Changes since the served generation was published.", "livemostrecent"
        )
        self.missing_shards = self._gauge(
            "svdraw_gallery_missing_shards", "Shards that do not answer, whose photos searches lack.", "livemax"
        )
        self.reloads = Counter(
            "svdraw_gallery_reloads_total", "Switches to another generation.", ("result",), registry=self.registry
        )
        for result in ("failed", "switched"):  # a counter that begins with its first failure does not rise by it
            self.reloads.labels(result)
        self.base_builds_running = self._gauge(
            "svdraw_gallery_base_builds_running", "Child processes that build a new base.", "livesum"
        )
        self.base_builds = Counter(
            "svdraw_gallery_base_builds_total",
            "Child processes that have built a new base, by result.",
            ("result",),
            registry=self.registry,
        )
        for result in ("failed", "killed", "succeeded"):
            self.base_builds.labels(result)
        self.loop_failures = Counter(
            "svdraw_loop_failures_total", "Failures of background jobs.", ("loop",), registry=self.registry
        )
        self.running = self._gauge("svdraw_requests_running", "Requests that are being answered.", "livesum")
        self.refused = Counter(
            "svdraw_refused_requests_total", "Requests that were refused.", ("reason",), registry=self.registry
        )
        self.keys_age = self._gauge(
            "svdraw_keys_age_seconds", "Time since the file of API keys was last read without a fault.", "livemax"
        )
        self.keys_failed_reads = Counter(
            "svdraw_keys_failed_reads_total", "Failed attempts to read the file of API keys.", registry=self.registry
        )
        self.dropped_lines = Counter(
            "svdraw_log_lines_dropped_total",
            "Lines of the log that were dropped because nobody read it.",
            registry=self.registry,
        )
        self.rejected = Counter(
            "svdraw_rejected_queries_total", "Queries that were not a usable image.", registry=self.registry
        )
        self.process_restarts = Counter(
            "svdraw_process_restarts_total",
            "Processes that have ended and were replaced, where several serve together.",
            registry=self.registry,
        )

    def _gauge(self, name: str, text: str, together: Literal["livesum", "livemax", "livemostrecent"]) -> Gauge:
        """A gauge; ``together`` says what it is for several processes that serve together."""
        return Gauge(name, text, registry=self.registry, multiprocess_mode=together)

    def text(self) -> bytes:
        """All metrics in the format of Prometheus; those of all processes if several serve together."""
        if _FOLDER not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def bury(self, pid: int) -> None:
        """Counts a process that has ended, and forgets what only a living one has, such as running requests."""
        self.process_restarts.inc()
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
