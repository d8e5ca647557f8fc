"""Prometheus metrics of the service, in base units, in the app's own registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics"]

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
        self.waiting = Gauge("svdraw_encoder_queue_size", "Requests waiting for a worker.", registry=self.registry)
        self.decoders = Gauge("svdraw_decoders", "Processes that decode images.", registry=self.registry)
        self.decoder_starts = Counter(
            "svdraw_decoder_starts_total", "Processes that decode images, started so far.", registry=self.registry
        )
        self.decoder_kills = Counter(
            "svdraw_decoder_kills_total",
            "Images whose decoder passed a limit, crashed or was killed, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.photos = Gauge("svdraw_gallery_photos", "Photos in the served generation.", registry=self.registry)
        self.generation = Gauge("svdraw_gallery_generation", "Number of the served generation.", registry=self.registry)
        self.changes = Gauge(
            "svdraw_gallery_live_changes", "Changes since the served generation was published.", registry=self.registry
        )
        self.reloads = Counter(
            "svdraw_gallery_reloads_total", "Switches to another generation.", ("result",), registry=self.registry
        )
        for result in ("failed", "switched"):  # a counter that begins with its first failure does not rise by it
            self.reloads.labels(result)
        self.base_builds_running = Gauge(
            "svdraw_gallery_base_builds_running", "Child processes that build a new base.", registry=self.registry
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
        self.running = Gauge("svdraw_requests_running", "Requests that are being answered.", registry=self.registry)
        self.refused = Counter(
            "svdraw_refused_requests_total", "Requests that were refused.", ("reason",), registry=self.registry
        )
        self.keys_age = Gauge(
            "svdraw_keys_age_seconds",
            "Time since the file of API keys was last read without a fault.",
            registry=self.registry,
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
