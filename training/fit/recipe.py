"""All settings of a training run except the paths of its files."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.pairing import Pairing
from training.fit.losses import Nesting
from training.model.backbones import DEFAULT_BACKBONE
from training.model.heads import Norm

__all__ = ["Recipe"]


class Recipe(BaseModel):
    """How a model is built and trained; the defaults are what measured best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str = Field(DEFAULT_BACKBONE, description="timm model name")
    start: Path | None = Field(None, description="model bundle whose backbones training starts from")
    start_heads: float = Field(
        0.0, ge=0, lt=1, description="share that the heads of --start keep in the closed form, backbones left alone"
    )
    share_backbone: bool = Field(True, description="one backbone for both modalities")
    multi_scale: bool = Field(True, description="append pooled features of the backbone's last five stages")
    image_size: int = Field(224, ge=32, le=1024, description="input side of the encoders, in pixels")
    training_size: int | None = Field(
        160, ge=32, le=1024, description="input side while backbones are trained; that of the encoders if omitted"
    )
    flip: bool = Field(False, description="average the features of each image and its mirror image")
    crop_to_ink: bool = Field(
        False, description="put small sketches on a canvas they fill, wide ones on a square, light lines turned dark"
    )
    grayscale: bool = Field(False, description="drop the colour of photos")
    dim: int = Field(512, ge=1, le=8192, description="embedding coordinates L; fewer if the data has fewer groups")
    hidden: int = Field(0, ge=0, description="width of the heads' hidden layer; 0 for linear heads")
    share_head: bool = Field(True, description="one trainable map for both modalities")
    sketch_mean: Literal["data", "start"] = Field(
        "data", description="centre sketches on those trained on, or, if line drawings stand in, where --start did"
    )
    sketch_norm: Norm = Field("none", description="norm projection of sketch embeddings")
    photo_norm: Norm = Field("sphere", description="norm projection of photo embeddings")
    mu: float = Field(
        16.0, gt=0, description="squared radius of a norm ball, and of a sphere with random initialisation"
    )
    init: Literal["closed-form", "random"] = Field("closed-form", description="initialisation of the heads")
    ridge: float | None = Field(
        None, gt=0, description="regularisation of the closed form in mean eigenvalues; chosen on held-out classes"
    )
    tune: Literal["none", "heads", "all"] = Field(
        "all", description="what NeuralSVD trains: nothing beyond the closed form, the heads, or the backbones too"
    )
    frozen_stages: int = Field(
        2, ge=0, description="first stages of the backbones that --tune all leaves as they are, for speed"
    )
    nesting: Nesting = Field(Nesting.JOINT, description="how all ranks are learned at once")
    nesting_step: int = Field(1, ge=1, description="distance between the ranks of joint nesting")
    canonical: bool = Field(True, description="put the result in canonical form, ordered by singular value")
    instances: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="share, in the closed form, of pairs of a sketch and the photo it depicts, where file names tell",
    )
    pairing: Pairing = Field(
        "auto",
        description="instance pairs in folders: auto pairs sketches NAME-k with photo NAME if file names follow that "
        "pattern throughout the data set, names pairs them in any case, none never does",
    )
    line_drawings: float = Field(
        0.3, ge=0, lt=1, description="share of pairs of a photo and a line drawing made from it"
    )
    epochs: int = Field(4, ge=1, description="passes over the photos")
    batch_size: int = Field(32, ge=2, description="pairs a batch")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="optimiser")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of the heads")
    backbone_learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of the backbones")
    weight_decay: float = Field(0.01, ge=0, description="weight decay")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    clip: float = Field(5.0, ge=0, description="largest gradient norm; 0 for no clipping")
    average: float = Field(0.98, ge=0, lt=1, description="decay of the moving average of parameters; 0 for none")
    amp: bool = Field(True, description="bfloat16 autocast on a GPU")
    half: bool = Field(False, description="store the backbones in half precision, in half the space")
    validation: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="fraction of the seen classes held out to choose on; 0 chooses nothing and trains once",
    )
    seed: int = Field(0, ge=0, description="of initialisation, batches and held-out classes")

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.init == "closed-form" and self.hidden:
            raise ValueError("the closed form initialises linear heads only; add --init random to use --hidden")
        if self.init == "random" and self.tune == "none":
            raise ValueError("random heads need training; add --tune heads or --tune all")
        if self.sketch_mean == "start" and (self.start is None or self.tune == "all"):
            raise ValueError("--sketch-mean start needs a model to --start from and its backbones left alone")
        if self.start_heads and (self.start is None or self.tune != "none" or not self.share_head):
            raise ValueError("--start-heads needs a model to --start from, --tune none and one head for both kinds")
        return self
