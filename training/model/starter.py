"""The starter model, which ships with the project so that photos can be searched before anything is trained."""

from pathlib import Path

__all__ = ["STARTER_MODEL"]

STARTER_MODEL = Path(__file__).with_name("starter")
