"""The commands of the training package: ``svdraw fit``, ``evaluate``, ``calibrate``, ``push`` and ``demo-data``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from cyclopts import Parameter
from pydantic import Field, model_validator

from training.base.artifacts import write_text
from training.base.cache import default_cache_directory
from training.base.command_line import Options, Settings
from training.base.errors import DataError
from training.data.demo_data import render_demo_data
from training.data.pairs import load_data
from training.data.photo_pairs import draw_pairs
from training.evaluation.calibration import FEWEST_CLASSES, fit_calibration
from training.evaluation.plots import plot_evaluation
from training.evaluation.protocol import EvaluationReport, query_classes
from training.evaluation.protocol import evaluate as measure
from training.features.paired import paired_features
from training.fit.distributed import first_alone, joined
from training.fit.recipe import Recipe, RecipeOptions, read_recipe
from training.fit.run import fit as train
from training.model.bundle import load_bundle, set_calibration
from training.model.devices import resolve_device
from training.model.hub import HubName
from training.model.manifest import BundleManifest, read_manifest
from training.model.publication import push_bundle
from training.model.starter import STARTER_MODEL

__all__ = ["Calibrate", "DemoData", "Evaluate", "Fit", "Push", "calibrate", "demo_data", "evaluate", "fit", "push"]

ADAPTATION_RIDGE = 8.0  # on held-out classes: less finds fewer of the same class, more finds fewer exact matches
_DATA = "folder with sketch/<class>/* and photo/<class>/*, or a pairs table (.csv, .parquet)"
_SPLIT = (
    "sketchy-1, sketchy-2, or a file: JSON with the seen and the unseen classes, or text that lists the unseen "
    "classes, one per line"
)
_DEVICE = "device to compute on: auto, cpu, cuda or cuda:N"
_CACHE = "folder of cached features"


class _Sources(Settings):
    data: Path | None = Field(None, description=f"training pairs: {_DATA}")
    photos: Path | None = Field(
        None,
        description="folder of photos to adapt a model to, in place of --data; line drawings computed from the photos "
        "are the sketches",
    )
    out: Path = Field(description="folder of the run, which becomes the model bundle")
    split: str | None = Field(None, description=f"class split: {_SPLIT}; images of unseen classes are never opened")
    recipe: Path | None = Field(
        None, description="JSON file with further choices, listed in docs/recipe.md; options win over it"
    )


class Fit(RecipeOptions, _Sources):  # the order of --help is that of the bases from the last to the first
    """Options of ``svdraw fit``: where the files are, and the choices that are changed most often."""

    cache: Path = Field(default_factory=default_cache_directory, description=_CACHE)
    device: str = Field("auto", description=_DEVICE)

    @model_validator(mode="after")
    def _one_source(self) -> "Fit":
        if (self.data is None) == (self.photos is None):
            raise ValueError("give either --data or --photos")
        return self


def fit(*, settings: Options[Fit]) -> None:
    """Trains paired encoders by NeuralSVD and writes a model bundle."""
    chosen = read_recipe(settings.recipe) if settings.recipe else {}
    chosen |= settings.model_dump(include=set(RecipeOptions.model_fields), exclude_unset=True)
    if settings.photos is not None:
        chosen = _adaptation(chosen) | chosen
    recipe = Recipe(**chosen)
    with joined(settings.device) as device:
        with first_alone():
            data = cast(Path, settings.data) if settings.photos is None else _drawn(settings)
        manifest = train(data, settings.out, recipe, split=settings.split, cache=settings.cache, device=device)
        _print_model(manifest, settings.out)


def _drawn(settings: Fit) -> Path:
    return draw_pairs(cast(Path, settings.photos), settings.out / "pairs")


def _print_model(manifest: BundleManifest, out: Path) -> None:
    top = ", ".join(f"{value:.3f}" for value in manifest.spectrum[:5])
    print(f"model {manifest.digest[:12]} in {out}: {len(manifest.spectrum)} dimensions, spectrum {top}, ...")


def _adaptation(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults for photos alone: the encoders of a model are kept and get a closed form of the line drawings."""
    start = Path(chosen.get("start") or STARTER_MODEL)
    encoders = read_manifest(start).encoders
    tune = chosen.get("tune", "none")
    defaults: dict[str, Any] = {
        "start": start,
        "backbone": encoders.backbone,
        "multi_scale": encoders.multi_scale,
        "share_backbone": encoders.share_backbone,
        "image_size": encoders.sketch.preprocessing.size,
        "flip": encoders.sketch.flip,
        "crop_to_ink": encoders.sketch.preprocessing.crop_to_ink,
        "grayscale": encoders.photo.preprocessing.grayscale,
        "tune": tune,
        "sketch_mean": "data" if tune == "all" else "start",
        "ridge": ADAPTATION_RIDGE,
        "line_drawings": 0.0,  # there is nothing else
    }
    if tune == "none" and chosen.get("share_head", True) and encoders.has_one_linear_head:
        defaults["start_heads"] = 0.5
    return defaults


class Evaluate(Settings):
    """Options of ``svdraw evaluate``."""

    model: Path = Field(description="model bundle to measure")
    data: Path = Field(description=f"test pairs: {_DATA}")
    split: str | None = Field(
        None, description=f"class split: {_SPLIT}; by default the classes that the model's own split held out"
    )
    gallery: Literal["unseen", "all"] = Field(
        "unseen", description="photos to search: those of the unseen classes, or all"
    )
    json_file: Annotated[Path | None, Parameter(name="--json")] = Field(
        None, description="JSON file to write every figure to"
    )
    plot: Path | None = Field(None, description="PNG file to draw the truncation curve and the spectrum into")
    cache: Path = Field(default_factory=default_cache_directory, description=_CACHE)
    device: str = Field("auto", description=_DEVICE)


def evaluate(*, settings: Options[Evaluate]) -> None:
    """Measures a model bundle by the zero-shot protocol."""
    device = resolve_device(settings.device)
    bundle = load_bundle(settings.model, settings.device)
    report = measure(
        bundle, settings.data, split=settings.split, gallery=settings.gallery, cache=settings.cache, device=device
    )
    if settings.json_file:
        write_text(settings.json_file, report.model_dump_json(indent=2) + "\n")
    if settings.plot:
        plot_evaluation(settings.plot, report.curve, report.gallery_curve, report.spectrum)
    print(_summary(report))


class Calibrate(Settings):
    """Options of ``svdraw calibrate``."""

    model: Path = Field(description="model bundle to calibrate, such as the folder model/ of a gallery")
    data: Path = Field(description=f"pairs of classes that the model was not trained on, and others: {_DATA}")
    split: str | None = Field(
        None, description=f"class split: {_SPLIT}; by default the classes that the model's own split held out"
    )
    cache: Path = Field(default_factory=default_cache_directory, description=_CACHE)
    device: str = Field("auto", description=_DEVICE)


def calibrate(*, settings: Options[Calibrate]) -> None:
    """Fits relevance on classes that a model bundle was not trained on, and writes it into the bundle."""
    device = resolve_device(settings.device)
    bundle = load_bundle(settings.model, settings.device)
    data = load_data(settings.data, bundle.manifest.training.settings.get("pairing", "auto"))
    classes = set(query_classes(bundle, data, settings.split)) - set(bundle.manifest.training.classes)
    features = paired_features(data, bundle.encoders, settings.cache, device)
    calibration = fit_calibration(features, bundle.encoders, bundle.spectrum, classes)
    if calibration is None:
        raise DataError(
            f"{settings.data} has too little to calibrate on: {len(classes)} classes with usable sketches that the "
            f"model was not trained on; {FEWEST_CLASSES} are needed, some of whose photos are found"
        )
    set_calibration(settings.model, calibration)
    print(f"{settings.model}: relevance fitted on {calibration.queries} sketches of {calibration.classes} classes")


class Push(Settings):
    """Options of ``svdraw push``."""

    model: Path = Field(description="folder of the model bundle to publish")
    to: str = Field(description="where to: hf://organisation/name, or hf://organisation/name@branch")
    private: bool = Field(False, description="if the repository is created, let only its owners see it")


def push(*, settings: Options[Push]) -> None:
    """Publishes a model bundle on a hub, with a card that says where it comes from."""
    name = HubName.parse(settings.to)
    commit = push_bundle(settings.model, name, private=settings.private)
    print(f"published; name this version as hf://{name.repository}@{commit}")


class DemoData(Settings):
    """Options of ``svdraw demo-data``."""

    out: Path = Field(description="folder to write")
    limit: int | None = Field(None, ge=10, description="largest number of classes to render; all when left out")


def demo_data(*, settings: Options[DemoData]) -> None:
    """Renders line drawings and colour pictures of the same things from two emoji fonts."""
    summary = render_demo_data(settings.out, limit=settings.limit)
    print(f"{summary.classes} classes, {summary.sketches} drawings, {summary.unseen} unseen classes, in {settings.out}")


def _summary(report: EvaluationReport) -> str:
    rows = [
        ("queries, gallery", f"{report.queries}, {report.gallery}"),
        ("instance pairs", f"{report.instance_queries:,} queries, {report.instance_rule}"),
        ("mAP@all", f"{report.map_all:.4f}"),
        ("mAP@200", f"{report.map_200:.4f}"),
        ("mAP, interpolated", f"{report.map_interpolated:.4f}"),
        *((f"P@{k}", f"{value:.4f}") for k, value in report.precision.items() if k in (25, 100)),
        *((f"acc@{k}", f"{value:.4f}") for k, value in report.accuracy.items() if k in (1, 10)),
        *(
            (f"acc@{k}, exact match (instance)", f"{value:.4f}")
            for k, value in report.instance_accuracy.items()
            if k in (1, 10)
        ),
        *((f"mAP@all, {p.dimensions} dimensions", f"{p.most:.4f}") for p in report.gallery_curve[-5:]),
    ]
    if report.trained_classes:
        rows.append(("NOT zero-shot", f"{report.trained_classes} of {report.classes} classes were trained on"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
