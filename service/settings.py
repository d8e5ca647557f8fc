"""Settings of the service: command line and environment, validated at start-up."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from training.base.command_line import command_config
from training.model.images import MAX_PIXELS

__all__ = ["ServiceSettings"]


class ServiceSettings(BaseSettings):
    """Serve sketch-to-photo search over a gallery."""

    model_config = command_config("python -m service")

    gallery: Path = Field(description="folder of the gallery, made by `python -m index build`; may be a link")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    runtime: Literal["auto", "onnx", "torch"] = Field("auto", description="what runs the encoder; auto: onnx on a CPU")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto", description="of the sketch encoder; auto: fp16 on a GPU; fp16 and bf16 run on PyTorch"
    )

    keys: Path | None = Field(None, description="file of API keys: NAME SCOPE SHA256 [LAST-DAY] a line")
    anonymous: Literal["none", "read", "write"] | None = Field(
        None, description="what requests without a key may do; none if there are keys, else read"
    )
    rate_limit: float = Field(0, ge=0, allow_inf_nan=False, description="requests per second and client; 0: any number")
    rate_burst: int = Field(20, ge=1, description="requests that a client may send at once under a rate limit")
    trusted_proxies: str = Field("127.0.0.1", description="addresses whose X-Forwarded-For is believed, by commas")

    max_body_bytes: int = Field(20_000_000, ge=1024, description="largest request body")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="largest width times height of an image sent")
    max_items: int = Field(32, ge=1, description="most images of one batch request")
    max_concurrent: int = Field(64, ge=1, description="most requests answered at once before 429")
    workers: int | None = Field(
        None, ge=1, description="images worked on at once; on a CPU one for each core, on a GPU what fills its batches"
    )
    max_batch: int | None = Field(None, ge=1, description="most images encoded together; 1 on a CPU, 16 on a GPU")
    max_waiting: int = Field(128, ge=1, description="most images that wait for a worker before 503")
    header_seconds: float = Field(10, gt=0, description="how long a client may take to send a request's head")
    body_seconds: float = Field(60, gt=0, description="how long a client may take to send a request's body")
    send_seconds: float = Field(30, gt=0, description="how long a client may take nothing of its answer")
    drain_seconds: int = Field(20, ge=0, description="how long running requests may take after SIGTERM")

    reload_seconds: float = Field(5, ge=0, description="how often to look for a new generation; 0: never")
    live_changes: int = Field(1000, ge=1, description="photos added or removed live before a generation is published")
    thumbnail_cache_bytes: int = Field(64_000_000, ge=0, description="memory for thumbnails")
