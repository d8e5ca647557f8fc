"""What the options of several commands have in common."""

from typing import Annotated

from cyclopts import Parameter

__all__ = ["DEVICE", "GALLERY", "MAX_PIXELS_HELP", "JsonFlag"]

GALLERY = "folder of the gallery"
DEVICE = "device to compute on: auto, cpu, cuda or cuda:N"
MAX_PIXELS_HELP = "largest photo that is decoded, width times height"

JsonFlag = Annotated[bool, Parameter(name="--json")]
