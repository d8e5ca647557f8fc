"""What route functions ask for by type."""

from typing import Annotated, cast

from fastapi import Depends, Request

from index.catalogue import Photo
from service.engine import Engine
from service.errors import RequestProblem

__all__ = ["EngineDependency", "PhotoDependency"]


def _engine(request: Request) -> Engine:
    engine = getattr(request.app.state, "engine", None)
    if engine is None:
        raise RequestProblem(503, "the service is starting; try again soon", {"Retry-After": "2"})
    return cast(Engine, engine)


EngineDependency = Annotated[Engine, Depends(_engine)]


def _photo(photo_id: int, engine: EngineDependency) -> Photo:
    photo = engine.gallery.catalogue.photo(photo_id) if abs(photo_id) < 2**63 else None
    if photo is None:
        raise RequestProblem(404, f"the gallery has no photo {photo_id}")
    return photo


PhotoDependency = Annotated[Photo, Depends(_photo)]
