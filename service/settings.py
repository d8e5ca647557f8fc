"""Settings of the service: command line and environment, validated at start-up."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from training.base.command_line import Many
from training.model.images import MAX_PIXELS

__all__ = ["ServiceSettings"]

_OWN_PATHS = ("docs", "static", "v1")  # with anything below them


class ServiceSettings(BaseModel):
    """Options of ``svdraw serve``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gallery: Path = Field(
        description="folder of the gallery, made by `svdraw index build`, or of shards; may be a symbolic link"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 chooses a free one")
    root_path: str = Field(
        "", description="path below which a proxy serves the service, such as /svdraw, whether it passes that on or not"
    )
    device: str = Field("auto", description="device to compute on: auto, cpu, cuda or cuda:N")
    processes: int = Field(
        1, ge=1, le=256, description="number of processes that serve together; more pay on machines with many cores"
    )
    runtime: Literal["auto", "onnx", "torch"] = Field(
        "auto", description="library that runs the sketch encoder; auto chooses onnx on a CPU and torch on a GPU"
    )
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = Field(
        "auto",
        description="precision of the sketch encoder; auto chooses fp16 on a GPU, and on a CPU int8 where the model's "
        "quality allows it and it is quicker, else fp32; fp16 and bf16 need torch",
    )

    keys: Path | None = Field(None, description="file of API keys, one per line: NAME SCOPE SHA256 [LAST-DAY]")
    keys_grace_seconds: float = Field(
        600,
        ge=0,
        allow_inf_nan=False,
        description="seconds for which the last good list of keys is used when the file is missing or has a bad line; "
        "then every key gets status 503",
    )
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

    hosts: Many[str] = Field(
        [],
        description="names that clients use for the service, joined by commas; *.example.org stands for all below it, "
        "* for any name; by default any where --host is 0.0.0.0 or ::, else that of --host",
    )
    cors_origins: Many[str] = Field(
        [],
        description="origins whose pages may use the API from a browser, joined by commas, such as "
        "https://example.org; * stands for any",
    )

    max_body_bytes: int = Field(20_000_000, ge=1024, description="largest body of a request, in bytes")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="largest image of a request, width times height")
    max_sketch_bytes: int = Field(16_000_000, ge=1024, description="largest file of a sketch, in bytes")
    max_sketch_pixels: int = Field(25_000_000, ge=1, description="largest sketch, width times height")
    decode_seconds: float = Field(
        10, gt=0, description="processor time in which a photo must be decoded, in seconds; a sketch gets 0.3 of it"
    )
    max_items: int = Field(32, ge=1, description="largest number of images in a batch request")
    max_concurrent: int = Field(64, ge=1, description="largest number of simultaneous requests; others get status 429")
    max_concurrent_per_client: int = Field(
        32, ge=1, description="largest number of simultaneous requests of one client; others of it get status 429"
    )
    max_received_bytes: int = Field(
        200_000_000,
        ge=1024,
        description="memory for the bodies of all requests together, in bytes; others get status 503",
    )
    header_seconds: float = Field(10, gt=0, description="seconds in which a client must send the head of a request")
    body_seconds: float = Field(60, gt=0, description="seconds in which a client must send the body of a request")
    send_seconds: float = Field(30, gt=0, description="seconds in which a client must accept a byte of its answer")
    min_client_rate: float = Field(
        2000,
        ge=0,
        allow_inf_nan=False,
        description="bytes per second that a client must at least send and accept, after some seconds; 0 means any",
    )
    drain_seconds: int = Field(20, ge=0, description="seconds that running requests may take after SIGTERM")

    ray: str | None = Field(
        None,
        description="address of a Ray cluster to serve shards on, such as 10.0.0.1:6379; needs the extra cluster",
    )
    replicas: int = Field(1, ge=1, le=1000, description="number of replicas of each shard on the cluster")
    replica_processors: float = Field(
        1,
        ge=0,
        allow_inf_nan=False,
        description="processors of the cluster that each replica reserves; 0 reserves none",
    )
    shard_seconds: float = Field(
        2, gt=0, description="seconds in which a shard must answer; without it, a result says that it is missing"
    )

    write_seconds: float = Field(
        10, gt=0, description="seconds in which a change of a photo must have begun; later ones get status 503"
    )
    reload_seconds: float = Field(
        5,
        ge=0,
        description="seconds between checks for a new generation, and for photos that other processes have changed; "
        "0 disables them",
    )
    live_changes: int = Field(
        1000, ge=1, description="number of photos added or removed by the API after which a new generation is published"
    )
    learn_queries: bool = Field(
        True,
        description="add up the embeddings of sketches, from which the next base index learns the order of dimensions; "
        "no sketch is kept",
    )
    thumbnail_cache_bytes: int = Field(
        256_000_000, ge=0, description="disk space for thumbnails in the user's cache, in bytes; 0 keeps none"
    )

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, value: str) -> str:
        path = value.rstrip("/")
        if path and not re.fullmatch(r"(/\w[\w.~-]*)+", path, flags=re.ASCII):
            raise ValueError("a root path is written like /svdraw, from letters, digits and -._~")
        if path.split("/")[1:2] and path.split("/")[1] in _OWN_PATHS:
            raise ValueError(f"a root path cannot begin with /{path.split('/')[1]}, which is a path of the service")
        return path

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, values: list[str]) -> list[str]:
        names = [value.lower().removesuffix(".") for value in values if value]
        for name in names:
            if name != "*" and not re.fullmatch(r"(\*\.)?[\w.-]+", name):
                raise ValueError(f"{name!r} is no name of a host; write it like example.org, without https:// and port")
        return names

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, values: list[str]) -> list[str]:
        origins = [value.lower() for value in values if value]
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+", origin):
                raise ValueError(f"{origin!r} is no origin; write it like https://example.org, without a path")
        return origins

    @model_validator(mode="after")
    def _check_bytes(self) -> Self:
        if self.max_received_bytes < self.max_body_bytes:
            raise ValueError(
                f"--max-received-bytes ({self.max_received_bytes}) must be at least --max-body-bytes "
                f"({self.max_body_bytes})"
            )
        return self

    @property
    def known_hosts(self) -> list[str]:
        """Names that the service answers to, beside those that are always known; see ``service.http.hosts``."""
        if self.hosts:
            return [*self.hosts, self.host.lower()]
        return ["*"] if self.host in ("", "0.0.0.0", "::") else [self.host.lower()]
