"""What the service serves: /v1/gallery and /v1/models."""

import anyio.to_thread
from fastapi import APIRouter

from service.access.admission import reader, writer
from service.dependencies import EngineDependency, ServingDependency
from service.engine.serving import Serving
from service.http.problems import documented
from service.schemas import GalleryInfo, ModelInfo, ModelList

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["gallery"], responses=documented(401, 403, 429, 503))


@router.get("/gallery", dependencies=[reader])
def gallery_info(serving: ServingDependency) -> GalleryInfo:
    """What the gallery holds."""
    return _info(serving)


@router.post("/gallery/reload", dependencies=[writer])
async def reload_gallery(engine: EngineDependency) -> GalleryInfo:
    """Switches to the published generation, or to another gallery if the link was changed; no request fails."""
    return await anyio.to_thread.run_sync(_info, await engine.reload())


@router.get("/models", dependencies=[reader])
async def models(serving: ServingDependency) -> ModelList:
    """The model that embeds sketches and photos."""
    manifest = serving.bundle.manifest
    encoder = manifest.encoders.sketch
    info = ModelInfo(
        id=manifest.digest,
        created=manifest.created,
        backbone=manifest.encoders.backbone,
        dim=encoder.head.dim,
        image_size=encoder.preprocessing.size,
    )
    return ModelList(data=[info])


def _info(serving: Serving) -> GalleryInfo:
    searcher = serving.searcher
    manifest = searcher.manifest
    return GalleryInfo(
        photos=searcher.count,
        dim=manifest.dim,
        default_dimensions=serving.bundle.default_dimensions,
        generation=manifest.generation,
        live_changes=len(searcher.changes),
        created=manifest.created,
        kind=manifest.kind,
        recall=manifest.target,
        model=manifest.model,
        colors=serving.catalogue.color_names(),
        spectrum=list(manifest.spectrum),
        shards=serving.shards,
        sketches=manifest.sketches,
    )
