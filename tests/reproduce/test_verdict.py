"""When a score is reproduced and when it differs."""

import math

import pytest

from fastfcn import recipes
from fastfcn.cli.tables.reproduce import verdict_table
from fastfcn.reproduce.verdict import COLUMNS, compare, markdown_row, verdict
from fastfcn.weights.download import hash_in_name, url_variants


@pytest.mark.parametrize(
    ("published", "measured", "expected", "difference"),
    [
        (79.26, 79.2649, "holds", 0.0049),
        (79.26, 79.36, "holds", 0.1),
        (79.26, 79.3601, "differs", 0.1001),
        (79.26, 79.16, "holds", -0.1),
        (79.26, 79.1599, "differs", -0.1001),
        (79.26, math.nan, "differs", None),
        (79.26, None, "differs", None),
        (None, 70.0, None, None),
    ],
)
def test_compare(published: float | None, measured: float | None, expected: str | None, difference: float | None):
    result = compare(published, measured, 0.1)
    assert (result["verdict"], result["difference"]) == (expected, difference)
    assert result["measured"] is None or math.isfinite(result["measured"])


def record(miou: float | None, device: str = "cpu") -> dict:
    return {"scores": {"miou": miou}, "device": device, "date": "2026-01-02", "seconds": 3.0}


DATA = {"dataset": "cityscapes", "folder": "cs", "split": "val", "images": 500}
WEIGHTS = {"file": "x.pth", "sha256": "00", "kind": "published", "address": None}


def verdict_of(one: float | None, many: float | None) -> dict:
    recipe = recipes.load("fastfcn_r50_psp_cityscapes_80k_b8")
    return verdict(recipe, {"miou": record(one), "miou_tta": record(many, "H100")}, 0.1, WEIGHTS, DATA)


def test_one_differing_score_decides():
    assert verdict_of(79.26, 80.86)["verdict"] == "holds"
    assert verdict_of(79.26, 80.5)["verdict"] == "differs"
    assert verdict_of(70.0, 80.86)["verdict"] == "differs"
    assert verdict_of(None, 80.86)["verdict"] == "differs"


def test_rows_fit_their_header():
    row = markdown_row(verdict_of(79.2, 80.9))
    assert row.count("|") == len(COLUMNS) + 1
    assert "| 79.26 | 79.20 | 80.86 | 80.90 | 0.1 | holds | cpu, H100 |" in row
    assert verdict_table(verdict_of(None, 80.9)).row_count == 2


def test_hashes_in_names():
    weights = recipes.load("fastfcn_r50_psp_cityscapes_80k_b8").published.weights
    assert hash_in_name(weights) == "57749bed"
    assert hash_in_name("encnet_jpu_res50_pcontext.pth.tar") == ""
    assert hash_in_name("fastfcn_r50-d32_jpu_psp.pth") == ""
    assert hash_in_name("net-2cccc1ad.pth.tar") == "2cccc1ad"


def test_url_variants():
    address = "https://a.b/v0.5/fastfcn/fastfcn/one/one_2021-57749bed.pth"
    assert url_variants(address) == ["https://a.b/v0.5/fastfcn/one/one_2021-57749bed.pth", address]
    for name in recipes.names():
        published = recipes.load(name).published
        if published and published.weights:
            urls = url_variants(published.weights)
            assert len(urls) == (2 if name == "fastfcn_r50_psp_cityscapes_80k_b8" else 1)
            assert len({url.rsplit("/", 1)[-1] for url in urls}) == 1
