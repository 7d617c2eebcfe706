"""FLOPs: counted by hand for small networks, and of OpenMMLab's networks against published counts."""

import pytest
import torch
from torch import nn

from fastfcn import build, recipes
from fastfcn.bench.flops import count_flops, device_peaks, matrix_peak


def test_convolutions_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8 x 10 x 12 outputs of 27 products
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8),  # as many of 9
        nn.Conv2d(8, 5, 1),  # 5 x 10 x 12 of 8
    ).eval()
    by_hand = 2 * 10 * 12 * (8 * 27 + 8 * 9 + 5 * 8)
    assert count_flops(network, torch.empty(1, 3, 20, 24)) == by_hand
    assert count_flops(network.to("meta"), torch.empty(4, 3, 20, 24, device="meta")) == 4 * by_hand


def test_matrix_products_by_hand():
    right = torch.empty(7, 5)
    assert count_flops(lambda images: images @ right, torch.empty(2, 3, 4, 7)) == 2 * (2 * 3 * 4) * 7 * 5


# GFLOPs at 512x1024 with 19 classes, counted for mmsegmentation 1.2.2, and what is saved by not upsampling pooled maps:
# in PSP's bottleneck over four maps (309 -> 155), in ASPP's over the image pool. The products of the Encoding layer,
# elementwise operations there, add 0.5.
DIRECT = {"psp": (520, 713), "aspp": (885, 1078), "enc": (370, 563)}
SAVED = {"psp": 154, "aspp": 39, "enc": 0}


@pytest.mark.parametrize("head", DIRECT)
@pytest.mark.parametrize("kind", ["fastfcn", "dilated"])
def test_published_networks(head, kind):
    with torch.device("meta"):
        network = build.create(recipes.load(f"{kind}_r50_{head}_cityscapes_80k_b8")).eval()
        counted = count_flops(network.logits, torch.empty(1, 3, 512, 1024)) / 1e9
    expected = DIRECT[head][kind == "dilated"] - SAVED[head]
    assert counted == pytest.approx(expected, abs=1.5)


def test_peak_of_a_device():
    assert 1e8 < matrix_peak(torch.device("cpu"), torch.float32, seconds=0) < 1e15


def test_peaks_by_format(monkeypatch):
    monkeypatch.setattr(
        "fastfcn.bench.flops.matrix_peak", lambda device, dtype: {torch.float32: 2.0, torch.bfloat16: 3.0}[dtype]
    )
    cpu = torch.device("cpu")
    assert device_peaks(cpu, None) == ({"float32": 2.0}, "float32")
    assert device_peaks(cpu, torch.bfloat16) == ({"float32": 2.0, "bfloat16": 3.0}, "bfloat16")


def test_slow_formats_are_measured_on_smaller_matrices(monkeypatch):
    lengths = []

    def one_gigaflop_each_millisecond(left, right, product):
        lengths.append(len(left))
        return 2 * len(left) ** 3 / 1e12

    monkeypatch.setattr("fastfcn.bench.flops._product_seconds", one_gigaflop_each_millisecond)
    assert matrix_peak(torch.device("cpu"), torch.float32, seconds=0.002) == pytest.approx(1e12)
    # The first takes 0.03 ms, twice the length 0.27 ms, and three of the next would take 6 ms.
    assert lengths[0] == 256
    assert set(lengths[1:]) == {512}
