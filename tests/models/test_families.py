"""A few of the networks in `families.py`, as far as time allows; the command in it checks all."""

import pytest

from fastfcn import build
from fastfcn.errors import RecipeError
from tests.models import families


@pytest.mark.parametrize("name", ["edgenext_xx_small", "lcnet_035"])
def test_a_network_trains_and_its_fast_form_is_equal(name: str):
    assert families.train(name) == ""
    assert families.predict(name) == ""


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "botnet26t_256"])
def test_a_network_that_cannot_work_is_refused_by_name(name: str):
    with pytest.raises(RecipeError, match=f"backbone.name = '{name}' cannot be used"):
        build.network(families.recipe(name), classes=5)
