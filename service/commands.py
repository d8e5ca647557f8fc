"""The command line of the service package; every option is also an environment variable."""

from service.server import serve
from service.settings import ServiceSettings

__all__ = ["Serve"]


class Serve(ServiceSettings):
    """Serve sketch-to-photo search over a gallery."""

    def cli_cmd(self) -> None:
        """Runs the service until it is told to stop."""
        serve(self)
