"""Families of timm networks as backbones: training, fast prediction and ONNX export of the smallest network of each.

    python -m tests.models.families [NAMES ...] [--out benchmarks/results/families.json] [--resume]

Each network runs in a separate process, so that a crash is a result. Results of other networks in the file are kept.
"""

import argparse
import importlib
import json
import multiprocessing
import signal
import tempfile
from datetime import date
from pathlib import Path

from fastfcn.utils.files import write_text

# The smallest network of each family, and its title.
FAMILIES = {
    "resnet10t": "ResNet",
    "resnext50_32x4d": "ResNeXt",
    "seresnet18": "SE-ResNet",
    "resnest14d": "ResNeSt",
    "res2net50_48w_2s": "Res2Net",
    "skresnet18": "SKNet",
    "resnetv2_18": "ResNetV2",
    "gernet_s": "GENet",
    "repvgg_a0": "RepVGG",
    "mobileone_s0": "MobileOne",
    "convnext_atto": "ConvNeXt",
    "convnextv2_atto": "ConvNeXtV2",
    "swin_tiny_patch4_window7_224": "Swin",
    "swinv2_tiny_window8_256": "SwinV2",
    "swinv2_cr_tiny_ns_224": "SwinV2-CR",
    "maxvit_nano_rw_256": "MaxViT",
    "coatnet_nano_rw_224": "CoAtNet",
    "pvt_v2_b0": "PVTv2",
    "edgenext_xx_small": "EdgeNeXt",
    "efficientnet_b0": "EfficientNet",
    "tf_efficientnet_lite0": "EfficientNet-Lite",
    "efficientnetv2_rw_t": "EfficientNetV2",
    "mixnet_s": "MixNet",
    "mobilenetv2_035": "MobileNetV2",
    "mobilenetv3_small_050": "MobileNetV3",
    "mobilenetv4_conv_small_035": "MobileNetV4",
    "mobilenetv4_hybrid_medium": "MobileNetV4 Hybrid",
    "mobilevit_xxs": "MobileViT",
    "mobilevitv2_050": "MobileViTv2",
    "mnasnet_small": "MnasNet",
    "semnasnet_075": "SE-MnasNet",
    "spnasnet_100": "SPNASNet",
    "ghostnet_050": "GhostNet",
    "repghostnet_050": "RepGhost",
    "fbnetc_100": "FBNet",
    "fbnetv3_b": "FBNetV3",
    "hardcorenas_a": "HardCoRe-NAS",
    "tinynet_e": "TinyNet",
    "lcnet_035": "LCNet",
    "rexnet_100": "ReXNet",
    "fastvit_t8": "FastViT",
    "efficientvit_b0": "EfficientViT (MIT)",
    "efficientvit_m0": "EfficientViT (MSRA)",
    "efficientformer_l1": "EfficientFormer",
    "efficientformerv2_s0": "EfficientFormerV2",
    "swiftformer_xs": "SwiftFormer",
    "levit_128s": "LeViT",
    "poolformer_s12": "PoolFormer",
    "caformer_s18": "CAFormer",
    "regnetx_002": "RegNetX",
    "regnety_002": "RegNetY",
    "regnetz_005": "RegNetZ",
    "nf_regnet_b0": "NF-RegNet",
    "dm_nfnet_f0": "NFNet",
    "densenet121": "DenseNet",
    "rdnet_tiny": "RDNet",
    "dla46_c": "DLA",
    "hrnet_w18_small": "HRNet",
    "vgg11_bn": "VGG",
    "xception41": "Xception (aligned)",
    "legacy_xception": "Xception",
    "inception_v3": "Inception",
    "inception_next_atto": "InceptionNeXt",
    "nextvit_small": "Next-ViT",
    "tresnet_m": "TResNet",
    "cspresnet50": "CSPResNet",
    "darknet17": "DarkNet",
    "dpn48b": "DPN",
    "ese_vovnet19b_slim": "VoVNet",
    "selecsls42": "SelecSLS",
    "hgnetv2_b0": "HGNetV2",
    "mambaout_femto": "MambaOut",
    "focalnet_tiny_srf": "FocalNet",
    "davit_tiny": "DaViT",
    "gcvit_xxtiny": "GCViT",
    "crossvit_tiny_240": "CrossViT",
    "twins_svt_small": "Twins-SVT",
    "sequencer2d_s": "Sequencer",
    "visformer_tiny": "Visformer",
    "starnet_s050": "StarNet",
    "repvit_m0_9": "RepViT",
    "shvit_s1": "SHViT",
    "fasternet_t0": "FasterNet",
    "tiny_vit_5m_224": "TinyViT",
    "hiera_tiny_224": "Hiera",
    "mvitv2_tiny": "MViTv2",
    "nest_tiny": "NesT",
    "coat_lite_tiny": "CoaT",
    "botnet26t_256": "BoTNet",
    "lambda_resnet26t": "LambdaNet",
    "vit_tiny_patch16_224": "ViT",
    "efficientvim_m1": "EfficientViM",
    "csatv2": "CSATv2",
    "naflexvit_base_patch16_gap": "NaFlexViT",
    "inception_v4": "Inception-v4",
    "beit_base_patch16_224": "BEiT",
    "cait_xxs24_224": "CaiT",
    "convit_tiny": "ConViT",
    "convmixer_768_32": "ConvMixer",
    "deit_tiny_patch16_224": "DeiT",
    "eva02_tiny_patch14_224": "EVA-02",
    "mixer_s16_224": "MLP-Mixer",
    "pit_ti_224": "PiT",
    "samvit_base_patch16": "ViT (SAM)",
    "tnt_s_patch16_224": "TNT",
    "vit_relpos_small_patch16_224": "ViT (relative positions)",
    "vit_tiny_r_s16_p8_224": "ViT hybrid",
    "vitamin_small_224": "ViTamin",
    "volo_d1_224": "VOLO",
    "xcit_nano_12_p16_224": "XCiT",
}
TRAINED = (64, 96)  # (height, width) of the crops
PREDICTED = ((64, 96), (45, 83), (130, 97))  # two of them no multiples of 32
EXPORTED = ((61, 83), (17, 23), (96, 128))
SECONDS = 900  # per network
COMMAND = "python -m tests.models.families"
# Imported once, before the processes are forked.
IMPORTED = ("fastfcn.exporting.export", "fastfcn.fast.optimize", "fastfcn.training.prepare", "tests.helpers.tiny")


def recipe(name: str):
    """A narrow FastFCN with the timm network `name` as backbone."""
    from tests.helpers.tiny import tiny_recipe

    return tiny_recipe(
        f'backbone={{kind="pyramid", name="{name}", pretrained="none"}}',
        "neck.width=32",
        'head={kind="enc", width=32, codewords=4, kernel=1, dropout=0.1, se_loss_weight=0.2, align_corners=false}',
    )


def train(name: str) -> str:
    """Two steps as training does them, on random crops; returns what was wrong, or nothing."""
    import torch

    from fastfcn import build
    from fastfcn.losses import segmentation_loss
    from fastfcn.training.prepare import prepare
    from fastfcn.utils.machine import Machine

    torch.manual_seed(0)
    used = recipe(name)
    network = build.network(used, classes=5, training=True).train()
    prepare(network, Machine("cpu"), torch.device("cpu"))
    optimizer, terms = build.optimizer(used, network), build.loss_terms(used)
    for _ in range(2):
        images = torch.randn(2, 3, *TRAINED).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(5, (2, *TRAINED))
        logits, extras = network.forward_train(images)
        loss = segmentation_loss(logits, extras, labels, terms, torch.tensor(labels.numel()), len(labels))["loss"]
        loss.backward()
        if not loss.isfinite():
            return f"the loss is {loss.item()}"
        optimizer.step()
        optimizer.zero_grad()
    wrong = [key for key, value in network.state_dict().items() if not value.isfinite().all()]
    return f"not finite: {wrong[0]}" if wrong else ""


def model(name: str, classes: int | None = None):
    """The network of `recipe` with distinct weights everywhere; timm initializes many branches as the identity.

    The statistics of its batch norms are those of random images, so that no map grows out of bounds.
    """
    import torch
    from torch import nn

    from fastfcn import build

    torch.manual_seed(0)
    network = build.create(recipe(name), classes).eval()
    for value in network.parameters():
        if value.numel() == max(value.shape, default=1):
            nn.init.uniform_(value, 0.5, 1.5)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network.train().logits(torch.randn(4, 3, *TRAINED))
    return network.eval()


def predict(name: str) -> str:
    """Compare the fast network with the plain one in float64; returns what was wrong, or nothing."""
    import copy

    import torch

    from fastfcn.exporting.verification import MAX_ERROR_RATIO, MIN_RELATIVE_ERROR
    from fastfcn.fast.optimize import optimize

    plain = model(name, 5)
    fast, exact = optimize(plain), copy.deepcopy(plain).double()
    for size in PREDICTED:
        images = torch.randn(1, 3, *size)
        with torch.inference_mode():
            expected, rounded, result = exact(images.double()), plain(images), fast(images)
        if not result.isfinite().all() or expected.std() < 1e-4:
            return f"at {size[0]}x{size[1]}: logits are not finite, or all equal"
        least = MIN_RELATIVE_ERROR * expected.abs().max()
        tolerance = MAX_ERROR_RATIO * max((rounded - expected).abs().max(), least)
        if not (difference := (result - expected).abs().max()) <= tolerance:
            return f"at {size[0]}x{size[1]}: logits differ by {difference:.2g}, tolerance {tolerance:.2g}"
    return ""


def export(name: str, format: str) -> str:
    """Export and verify; returns what was wrong, or nothing."""
    from fastfcn import build, weights
    from fastfcn.errors import UserError
    from fastfcn.exporting.export import ExportSettings, export
    from fastfcn.prediction.runtimes.registry import find_runtime

    used = recipe(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        weights.save(path, model(name), used, build.description(used))
        try:
            out = path.with_suffix(find_runtime(format).suffix)
            export(path, format, out, ExportSettings(logits=True, sizes=EXPORTED))
        except UserError as error:
            return error.message
    return ""


def check(name: str, formats: list[str], out: Path) -> None:
    """Write a line of JSON to `out` for each result of the network `name`; the first may be that it is refused."""
    from fastfcn import build
    from fastfcn.errors import RecipeError

    steps = {"training": train, "prediction": predict}
    steps |= {format: lambda name, format=format: export(name, format) for format in formats}
    with out.open("w") as file:
        try:
            build.check_backbone(recipe(name))
        except RecipeError as error:
            print(json.dumps({"refused": str(error.__cause__)}), file=file)
            return
        for step, run in steps.items():
            try:
                problem = run(name)
            except Exception as error:  # whatever it is, it is the result
                problem = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            print(json.dumps({step: problem or "ok"}), file=file, flush=True)


def result(name: str, formats: list[str]) -> dict[str, str]:
    """The results of `check` in a separate process; a crash is the result of the step that did not report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        process = multiprocessing.get_context("fork").Process(target=check, args=(name, formats, path))
        process.start()
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        results: dict[str, str] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            results |= json.loads(line)
    code = process.exitcode or 0
    if code:
        end = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        missing = [step for step in ("training", "prediction", *formats) if step not in results]
        results["/".join(missing[:1]) or "exit"] = f"crashed: {end}"
    return {"family": FAMILIES.get(name, name), **results}


def main() -> None:
    """Check the networks named on the command line, or all; update the file of results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="timm networks (default: all in FAMILIES)")
    parser.add_argument("--formats", default="onnx", help="export formats, separated by commas (default: onnx)")
    parser.add_argument("--out", type=Path, help="JSON file to update")
    parser.add_argument("--resume", action="store_true", help="leave out networks that --out has in all formats")
    arguments = parser.parse_args()
    formats = [format for format in arguments.formats.split(",") if format]
    for module in IMPORTED:
        importlib.import_module(module)
    out, names = arguments.out, arguments.names or list(FAMILIES)
    stored = json.loads(out.read_text()) if out and out.exists() else {"networks": {}}
    for name in names:
        known = stored["networks"].get(name, {})
        if arguments.resume and ("refused" in known or {"training", "prediction", *formats} <= known.keys()):
            continue
        row = result(name, formats)
        print(name, json.dumps(row), flush=True)
        before = {} if "refused" in row or "refused" in known else known
        stored["networks"][name] = {**before, **row}
        if out:
            stored |= {"command": f"{COMMAND} --out {out}", "date": str(date.today())}
            write_text(out, json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
