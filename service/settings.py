"""Settings of the service: command line and environment, validated at start-up."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from training.command_line import command_config
from training.images import MAX_PIXELS

__all__ = ["ServiceSettings"]


class ServiceSettings(BaseSettings):
    """Serve sketch-to-photo search over a gallery."""

    model_config = command_config("python -m service")

    gallery: Path = Field(description="folder of the gallery, made by `python -m index build`")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    max_body_bytes: int = Field(20_000_000, ge=1024, description="largest request body")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="largest width times height of a query image")
    max_batch: int = Field(16, ge=1, description="most sketches encoded at once")
    max_waiting: int = Field(128, ge=1, description="most sketches that wait for the encoder before 503")
    drain_seconds: int = Field(20, ge=0, description="how long running requests may take after SIGTERM")

    def cli_cmd(self) -> None:
        """Runs the service until it is told to stop."""
        from service.server import serve  # the server imports the settings

        serve(self)
