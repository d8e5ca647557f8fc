"""The encoder as the service runs it, without the rest of the service."""

import threading
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from measurements.process import rate
from service.encoding.decoding import Decoder
from service.encoding.model import EncodingModel
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings
from training.inference.plan import make_plan
from training.inference.runners import build_runner
from training.model.bundle import load_bundle
from training.model.images import open_image

__all__ = ["BareEncoder"]


class BareEncoder:
    """Threads, runtime and preprocessing of the service, with images from memory.

    Args:
        gallery: gallery whose model encodes.
    """

    def __init__(self, gallery: Path) -> None:
        settings = ServiceSettings.model_construct(gallery=gallery, device="cpu")  # ignores the environment
        self.bundle = load_bundle(gallery / "model", "cpu")
        self.plan = make_plan(self.bundle.device)
        torch.set_num_threads(1)
        metrics = Metrics()
        decoder = Decoder.for_service(settings, self.plan.cores, metrics)
        self.model = EncodingModel(self.bundle, settings, metrics, decoder)
        self.model.warm_up()

    def throughput(self, sketches: Sequence[bytes], seconds: float) -> dict[str, float]:
        """Measures how many sketches are embedded from their bytes, by as many threads as the service has workers."""
        watches = [Stopwatch() for _ in range(self.plan.at_once)]
        end = time.perf_counter() + seconds

        def work(watch: Stopwatch) -> None:
            for sketch in cycle(sketches):
                if time.perf_counter() >= end:
                    return
                self.model.embed(sketch, "sketch", watch)

        threads = [threading.Thread(target=work, args=(watch,)) for watch in watches]
        started, cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed, cpu = time.perf_counter() - started, time.process_time() - cpu
        stages = [stage for watch in watches for stage in watch.stages]
        done = sum(stage.name == "encode" for stage in stages)
        median = {
            f"{name}_ms": 1000 * float(np.median([stage.seconds for stage in stages if stage.name == name]))
            for name in ("decode", "encode")
        }
        return {"per_second": done / passed, "cpu_ms": 1000 * cpu / done} | median

    def alternatives(self, sketches: Sequence[bytes], seconds: float) -> dict[str, float]:
        """Measures preprocessed images per second: all cores on one batch, and PyTorch with one image at a time."""
        preprocess, encoder = self.bundle.sketch.preprocessing, self.bundle.sketch
        images = torch.stack([preprocess(open_image(sketch)) for sketch in sketches[:16]])
        runner = build_runner(encoder, "onnx", threads=self.plan.cores)
        figures = {}
        for size in (1, 4, 16):
            figures[f"batch_of_{size}"] = size * rate(lambda size=size: runner(images[:size]), seconds)
        torch.set_num_threads(self.plan.cores)
        figures["pytorch"] = rate(lambda: self.bundle.encode(encoder, images[:1]), seconds)
        torch.set_num_threads(1)
        return figures
