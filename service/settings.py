"""Settings of the service: command line and environment, validated at start-up."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from training.model.images import MAX_PIXELS

__all__ = ["ServiceSettings"]


class ServiceSettings(BaseModel):
    """Options of ``svdraw serve``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gallery: Path = Field(description="folder of the gallery, made by `svdraw index build`; may be a symbolic link")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 chooses a free one")
    device: str = Field("auto", description="device to compute on: auto, cpu, cuda or cuda:N")
    runtime: Literal["auto", "onnx", "torch"] = Field(
        "auto", description="library that runs the sketch encoder; auto chooses onnx on a CPU and torch on a GPU"
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto",
        description="precision of the sketch encoder; auto chooses fp16 on a GPU, else fp32; fp16 and bf16 need torch",
    )

    keys: Path | None = Field(None, description="file of API keys, one per line: NAME SCOPE SHA256 [LAST-DAY]")
    anonymous: Literal["none", "read", "write"] | None = Field(
        None, description="what requests without a key may do; by default none if there are keys, else read"
    )
    rate_limit: float = Field(
        0, ge=0, allow_inf_nan=False, description="largest number of requests per second and client; 0 means no limit"
    )
    rate_burst: int = Field(20, ge=1, description="requests that a client may send at once under the rate limit")
    trusted_proxies: str = Field(
        "127.0.0.1", description="proxies whose X-Forwarded-For is trusted: addresses or networks, joined by commas"
    )

    max_body_bytes: int = Field(20_000_000, ge=1024, description="largest body of a request, in bytes")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="largest image of a request, width times height")
    max_items: int = Field(32, ge=1, description="largest number of images in a batch request")
    max_concurrent: int = Field(64, ge=1, description="largest number of simultaneous requests; others get status 429")
    header_seconds: float = Field(10, gt=0, description="seconds in which a client must send the head of a request")
    body_seconds: float = Field(60, gt=0, description="seconds in which a client must send the body of a request")
    send_seconds: float = Field(30, gt=0, description="seconds in which a client must accept a byte of its answer")
    drain_seconds: int = Field(20, ge=0, description="seconds that running requests may take after SIGTERM")

    reload_seconds: float = Field(5, ge=0, description="seconds between checks for a new generation; 0 disables them")
    live_changes: int = Field(
        1000, ge=1, description="number of photos added or removed by the API after which a new generation is published"
    )
    learn_queries: bool = Field(
        True,
        description="add up the embeddings of sketches, from which the next base index learns the order of dimensions; "
        "no sketch is kept",
    )
    thumbnail_cache_bytes: int = Field(64_000_000, ge=0, description="memory for thumbnails, in bytes")
