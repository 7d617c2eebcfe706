"""Finding weights: a file, a recipe with published weights, or an address on the Hugging Face Hub."""

from pathlib import Path

from fastfcn.recipes.published import published_recipe, published_url
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.progress import console
from fastfcn.utils.storage import cache_folder
from fastfcn.weights.download import fetch_published, hash_in_name
from fastfcn.weights.hub import fetch, is_address


def local_file(name: str | Path) -> Path:
    """The local file that `name` means.

    `name`: a path; the name of a recipe, whose published checkpoint is downloaded, verified and converted once; or
    `hf://USER/NAME`. Raises WeightsError if the weights cannot be downloaded or do not fit.
    """
    if is_address(name):
        return fetch(name)
    recipe = published_recipe(name)
    return published_file(recipe) if recipe else Path(name)


def model_name(path: str | Path) -> str:
    """A name for the model in a file: that of the file, or of its folder for weights.safetensors."""
    file = Path(path)
    return file.parent.name if file.stem == "weights" and file.parent.name else file.stem


def published_file(recipe: Recipe) -> Path:
    """The weights file of a recipe's published checkpoint, from the cache, or downloaded and converted."""
    url = published_url(recipe)
    target = cache_folder() / f"{recipe.name}-{hash_in_name(url) or 'published'}.safetensors"
    if not target.is_file():
        from fastfcn.weights.convert import convert

        convert_it = f"fastfcn convert FILE --recipe {recipe.name} --out weights.safetensors"
        checkpoint = fetch_published(recipe.name, url, f"Or convert a file you downloaded: {convert_it}")
        console.print(f"Converting {checkpoint.name} to {target}", markup=False, highlight=False, soft_wrap=True)
        convert(checkpoint, recipe.name, target)
    return target
