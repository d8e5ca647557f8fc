"""What the service serves: GET /v1/gallery and GET /v1/models."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.dependencies import EngineDependency
from service.problems import PROBLEM_RESPONSES

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["gallery"], responses={503: PROBLEM_RESPONSES[503]})


class GalleryInfo(BaseModel):
    """The served generation of the gallery."""

    photos: int
    dim: int = Field(description="embedding coordinates; `dimensions` of a search goes up to this")
    default_dimensions: int = Field(
        description="`dimensions` of a search that does not say: the fewest that kept 99% of mAP on held-out classes"
    )
    generation: int
    created: str
    kind: str = Field(description="of index")
    model: str = Field(description="digest of the model")
    spectrum: list[float] = Field(description="singular values of the learned operator, descending")


class ModelInfo(BaseModel):
    """A model."""

    id: str = Field(description="digest")
    object: str = "model"
    created: str
    backbone: str
    dim: int
    image_size: int


class ModelList(BaseModel):
    """Models in the shape that OpenAI's clients know."""

    object: str = "list"
    data: list[ModelInfo]


@router.get("/gallery")
def gallery_info(engine: EngineDependency) -> GalleryInfo:
    """What the gallery holds."""
    manifest = engine.searcher.manifest
    return GalleryInfo(
        photos=manifest.count,
        dim=manifest.dim,
        default_dimensions=engine.default_dimensions,
        generation=manifest.generation,
        created=manifest.created,
        kind=manifest.kind,
        model=manifest.model,
        spectrum=list(engine.bundle.spectrum),
    )


@router.get("/models")
def models(engine: EngineDependency) -> ModelList:
    """The model that embeds sketches and photos."""
    manifest = engine.bundle.manifest
    encoder = manifest.encoders.sketch
    info = ModelInfo(
        id=manifest.digest,
        created=manifest.created,
        backbone=manifest.encoders.backbone,
        dim=encoder.head.dim,
        image_size=encoder.preprocessing.size,
    )
    return ModelList(data=[info])
