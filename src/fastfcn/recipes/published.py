"""Which recipes have published weights, and where these are. Imports no PyTorch."""

from collections.abc import Iterator
from pathlib import Path

from fastfcn.errors import WeightsError
from fastfcn.recipes.recipe import Recipe, is_known, load, names
from fastfcn.utils.spelling import did_you_mean


def published_recipe(name: str | Path) -> Recipe | None:
    """The recipe that `name` means when it stands for its published weights; None if `name` is the path of a file.

    `name`: a recipe's name or alias, such as "fastfcn_r50_psp_cityscapes_80k_b8", without a folder or suffix. A file of
    that name comes first. Raises WeightsError for a recipe without published weights.
    """
    text = str(name)
    if Path(text).exists() or Path(text).name != text or Path(text).suffix:
        return None
    if not is_known(text):
        return None
    recipe = load(text)
    published_url(recipe)
    return recipe


def published_url(recipe: Recipe) -> str:
    """Where the published weights of a recipe can be downloaded. Raises WeightsError if they cannot."""
    url = recipe.published.weights if recipe.published else None
    if not url:
        raise WeightsError(
            f"Recipe '{recipe.name}' has no published weights.",
            f"Train it: fastfcn train {recipe.name} --data DIR --out runs/NAME. `fastfcn recipes` lists all recipes.",
        )
    if not _is_downloadable(url):
        raise WeightsError(
            f"The published weights of '{recipe.name}' cannot be downloaded automatically.",
            f"Download {url} in a browser, then: fastfcn convert FILE --recipe {recipe.name} --out weights.safetensors",
        )
    return url


def published_names() -> Iterator[str]:
    """Names of the recipes whose published weights can be downloaded."""
    for name in names():
        published = load(name).published
        if published and published.weights and _is_downloadable(published.weights):
            yield name


def similar_name(name: str) -> str:
    """`; did you mean "NAME"?` if `name` resembles that of a recipe with published weights, else nothing."""
    return did_you_mean(name, list(published_names()))


def _is_downloadable(url: str) -> bool:
    """Whether `url` is a checkpoint, not a page with a download button."""
    return url.endswith(".pth")
