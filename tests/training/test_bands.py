"""Images of five bands from the folder to the service: init, train, resume, evaluate, predict, export, serve."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfcn
from fastfcn import build, recipes, weights
from fastfcn.client import Client
from fastfcn.data.sampler import SampleKey
from fastfcn.errors import DataError, RecipeError, UserError
from fastfcn.evaluation.analysis.examples import example_image
from fastfcn.evaluation.evaluate import evaluate, load_setup
from fastfcn.exporting.export import ExportSettings, export
from fastfcn.fast.optimize import optimize
from fastfcn.init.init import init
from fastfcn.prediction.inputs import find_inputs
from fastfcn.prediction.job import PredictionJob
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.video.segment import OutputSettings
from fastfcn.recipes.recipe import Recipe
from fastfcn.serving.settings import Settings
from fastfcn.training.log import StopRequest
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.machine import Machine
from fastfcn.weights.pretrained import load_backbone
from fastfcn.weights.start import load_initial_weights
from tests.helpers.band_sets import NAMES, SIZE, png_16_bits, scene, write_set
from tests.helpers.running_service import running
from tests.helpers.tiny import tiny_model, tiny_recipe

CPU = Machine("cpu", workers=0)
SMALL = (
    'backbone={kind="pyramid", name="test_resnet", pretrained="none"}', "neck.width=8", "head.width=8",
    "auxiliary.width=8", "optim.steps=4", "optim.batch=2", "eval.every=4", "data.rotate=10.0",
)  # fmt: skip


@pytest.fixture(scope="module", params=[("uint16", ".tif"), ("float32", ".npy")], ids=["uint16", "float32"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_set(tmp_path_factory.mktemp("scenes"), *request.param)
    init(root, pretrained="none", bands=None)
    return root


def recipe_of(folder: Path, *changes: str) -> Recipe:
    return recipes.load(folder / "recipe.toml", [*SMALL, *changes])


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(train(recipe_of(folder), folder, tmp_path_factory.mktemp("runs") / "whole", CPU).folder)


@pytest.fixture(scope="module")
def predictor(run: Run) -> Predictor:
    return fastfcn.load(run.last, "cpu")


def first_image(folder: Path) -> Path:
    return sorted((folder / "images" / "val").iterdir())[0]


def test_init_measures_the_bands(folder: Path):
    data, bands = recipe_of(folder).data, build.description(recipe_of(folder)).bands
    assert bands is not None
    named = bands.dtype == "uint16"  # arrays have no names
    assert bands.names == data.bands == (NAMES if named else tuple(f"band_{number}" for number in range(1, 6)))
    assert bands.nodata == (0 if named else None)
    pixels = np.stack([scene(number, bands.dtype)[0] for number in range(6)]).astype(np.float64)
    pixels[0, :2, :3] = np.nan
    assert data.mean == pytest.approx(np.nanmean(pixels, (0, 1, 2)).tolist(), rel=1e-5)
    assert data.std == pytest.approx(np.nanstd(pixels, (0, 1, 2)).tolist(), rel=1e-4)


def test_a_resumed_run_equals_one_that_was_never_stopped(folder: Path, run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(StopRequest, "requested", lambda *_: Run(tmp_path / "cut").read_log()[-1]["step"] == 2)
    changes = "data.photometric_distortion=0.5"
    recipe = recipe_of(folder, changes)
    assert not train(recipe, folder, tmp_path / "cut", CPU, trust_labels=True).finished
    monkeypatch.undo()
    assert train(recipe, folder, tmp_path / "cut", CPU, resume=True, trust_labels=True).finished
    one, other = (weights.read(path).tensors for path in (run.last, Run(tmp_path / "cut").last))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_predictions_follow_the_bands_and_their_order(folder: Path, predictor: Predictor):
    image = predictor.images.read(first_image(folder))
    logits = predictor(image, logits=True).logits
    assert logits is not None
    assert np.array_equal(predictor(first_image(folder), logits=True).logits, logits)
    assert np.array_equal(predictor(torch.from_numpy(image).permute(2, 0, 1), logits=True).logits, logits)
    for band in range(5):
        changed = image.copy()
        changed[..., band] = changed[..., band].mean()
        assert not np.allclose(predictor(changed, logits=True).logits, logits), f"band {band} is not used"
    assert not np.allclose(predictor(image[..., ::-1].copy(), logits=True).logits, logits)
    assert predictor(image).image.shape == (*SIZE, 3)
    for wrong in (image[..., :3], image.astype(np.float64), image.transpose(2, 0, 1)):
        with pytest.raises(DataError, match="5 bands"):
            predictor(wrong)


def test_a_selection_is_read_in_its_order(folder: Path):
    data = recipe_of(folder).data
    assert data.bands
    chosen = recipe_of(
        folder, "data.bands=[4, 1]", f"data.mean=[{data.mean[3]}, {data.mean[0]}]",
        f"data.std=[{data.std[3]}, {data.std[0]}]", "data.photometric_distortion=0.0", "data.rotate=0.0",
    )  # fmt: skip
    everything = recipe_of(folder, "data.photometric_distortion=0.0", "data.rotate=0.0")
    key = SampleKey(step=0, slot=1, index=2, seed=3)
    parts = [
        build.dataset(used, build.description(used), folder, "train", train=True)[key][0]
        for used in (chosen, everything)
    ]
    assert torch.equal(parts[0], parts[1][[3, 0]])
    with pytest.raises(RecipeError, match=r"data.mean: found .*one number for each of the 2 data.bands"):
        recipe_of(folder, "data.bands=[4, 1]")
    unknown = recipe_of(folder, 'data.bands=["red edge"]', "data.mean=[0.0]", "data.std=[1.0]")
    with pytest.raises(RecipeError, match="there is no band 'red edge'"):
        build.image_reader(unknown, build.description(unknown))


def test_what_needs_rgb_is_refused(folder: Path, predictor: Predictor, tmp_path: Path):
    for change in ("data.blur=0.5", 'colors={kind="rand_augment", operations=2, magnitude=5.0}'):
        with pytest.raises(RecipeError, match="needs RGB images"):
            recipe_of(folder, change)
    tiny = tiny_recipe("data.bands=[1]", "data.mean=[0.0]", "data.std=[1.0]")
    with pytest.raises(RecipeError, match="chooses bands, but the description"):
        build.image_reader(tiny, build.description(tiny))
    with pytest.raises(RecipeError, match="the recipe is for RGB images"):
        build.image_reader(tiny_recipe(), build.description(recipe_of(folder)))
    (tmp_path / "a.mp4").write_bytes(b"")
    job = PredictionJob(find_inputs([str(tmp_path / "a.mp4")]), tmp_path / "out", OutputSettings())
    with pytest.raises(UserError, match="Videos have RGB frames"):
        job.predict_video(predictor, 0)


def test_evaluation_and_reports_read_bands(folder: Path, run: Run):
    scores = evaluate(run.last, folder, CPU).scores
    assert scores.counts.sum() == 2 * SIZE[0] * SIZE[1]
    example = example_image(load_setup(run.last, folder, CPU), 0)
    assert example.image.shape == (*SIZE, 3)
    assert example.image.dtype == np.uint8


def test_predict_writes_label_images_and_overlays(folder: Path, predictor: Predictor, tmp_path: Path):
    job = PredictionJob(find_inputs([str(folder / "images" / "val")]), tmp_path, OutputSettings())
    assert list(job.predict_images(predictor)) == [None, None]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{path.stem}{ending}" for path in (folder / "images" / "val").iterdir() for ending in (".png", "_overlay.jpg")
    )


def test_an_exported_file_computes_the_same(folder: Path, run: Run, predictor: Predictor, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    result = export(run.last, "onnx", tmp_path / "model.onnx", ExportSettings(logits=True, sizes=((33, 47),)))
    assert result.verification.failures() == []
    exported = fastfcn.load(tmp_path / "model.onnx", "cpu")
    image = first_image(folder)
    logits = [used(image, logits=True).logits for used in (predictor, exported)]
    assert np.allclose(*logits, atol=1e-4)
    assert evaluate(tmp_path / "model.onnx", folder, CPU).scores.counts.sum() == 2 * SIZE[0] * SIZE[1]


def test_the_service_reads_bands(folder: Path, predictor: Predictor):
    expected = predictor(first_image(folder)).labels
    with running([predictor], Settings(decode_timeout=60.0, timeout=120.0)) as service:
        client = Client(service.url)
        prediction = client(first_image(folder))
        assert np.array_equal(prediction.labels, expected)
        assert prediction.overlay().shape == (*SIZE, 3)
        rgb = service.ask("/predict", png_16_bits(scene(0)[0][..., :3]))
        assert rgb.status == 422
        assert "it has 3 bands" in rgb.json["detail"]
        assert service.ask("/predict", b"GIF89a").status == 415
        assert json.loads(service.ask("/info").body)["model"]["bands"]["chosen"] == list(predictor.images.names)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["test_resnet", "resnet18", "tf_efficientnet_lite0"])
def test_the_fast_form_computes_what_the_plain_network_does(name: str):
    changes = (f'backbone={{kind="pyramid", name="{name}", pretrained="none"}}', "data.bands=[1, 2, 3, 4, 5]",
               "data.mean=[0.0, 0.0, 0.0, 0.0, 0.0]", "data.std=[1.0, 1.0, 1.0, 1.0, 1.0]")  # fmt: skip
    model = tiny_model(*changes)
    images = torch.randn(1, 5, 40, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(optimize(model)(images), model(images), rtol=1e-3, atol=1e-3)


def test_rgb_weights_are_adapted_by_timms_rule(folder: Path, tmp_path: Path):
    rgb, recipe, remarks = tiny_model(), recipe_of(folder), []
    net = build.network(recipe, 3).backbone
    load_backbone(net, rgb.backbone.state_dict(), "rgb", remarks)
    name = "conv1.0.weight" if "conv1.0.weight" in net.state_dict() else "conv1.weight"
    source, adapted = rgb.backbone.state_dict()[name], net.state_dict()[name]
    assert torch.allclose(adapted, 0.6 * source[:, [0, 1, 2, 0, 1]])
    assert remarks == [
        f"{name}: the weights for red, green and blue were repeated over 5 channels and multiplied by 3/5."
    ]
    path, remarks = tmp_path / "rgb.safetensors", []
    weights.save(path, rgb, tiny_recipe(), build.description(tiny_recipe()))
    whole = recipe_of(folder, f"load_from={path}", "weight_init=openmmlab")
    model = build.network(whole, 3)
    load_initial_weights(whole, model, ["class_0", "class_1", "class_2"], remarks=remarks)
    assert torch.equal(model.state_dict()[f"backbone.{name}"], adapted)
    assert len(remarks) == 1
