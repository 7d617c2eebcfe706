"""`fastfcn push`: a weights file to the Hugging Face Hub, with a model card written from it."""

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from fastfcn import weights
from fastfcn.errors import UserError, WeightsError
from fastfcn.utils.files import make_folder, replace_file, write_text
from fastfcn.weights.hub_errors import FILE, LOGIN, explained
from fastfcn.weights.info import info, score_line
from fastfcn.weights.model_card import model_card

NAME = re.compile(r"[\w.-]+/[\w.-]+")


def write_files(path: str | Path, name: str, folder: str | Path, licence: str | None = None) -> list[Path]:
    """Write what `push` sends of the weights file `path` into `folder`; returns the files.

    README.md (the card), weights.safetensors, recipe.toml, and config.json with what `info` says, by which the Hub
    counts downloads. Raises WeightsError and OutputError.
    """
    _check_name(name)
    about, place = info(path), make_folder(folder)
    about["file"] = FILE
    recipe = weights.read(path).recipe.text
    write_text(place / "README.md", model_card(name, about, recipe, score_line(about), licence))
    write_text(place / "recipe.toml", recipe)
    write_text(place / "config.json", json.dumps({"library_name": "fastfcn"} | about, indent=1) + "\n")
    if not (place / FILE).exists() or not (place / FILE).samefile(path):
        with replace_file(place / FILE) as temporary:
            shutil.copyfile(path, temporary)
    return [place / each for each in ("README.md", FILE, "recipe.toml", "config.json")]


def push(path: str | Path, name: str, private: bool = False, message: str = "", licence: str | None = None) -> str:
    """Upload a weights file as the model `USER/NAME`, made where it is not there; returns its address.

    A model that is there gets a new version; nothing of it is removed. Raises WeightsError for a file that is no
    weights file, and UserError without a login, without the right to write there, and without a network.
    """
    from huggingface_hub import HfApi, get_token

    _check_name(name)
    if not get_token():
        raise UserError(f"Without a login nothing can be sent to {name}.", f"{LOGIN} To look first: --dry-run FOLDER")
    with TemporaryDirectory() as folder:
        write_files(path, name, folder, licence)
        api = HfApi(library_name="fastfcn")
        try:
            place = api.create_repo(name, private=private, exist_ok=True)
            if private and not api.model_info(name).private:
                raise UserError(f"{name} is there already, and public: nothing was sent.", "Choose another name.")
            api.upload_folder(repo_id=name, folder_path=folder, commit_message=message or "Weights from fastfcn")
        except Exception as error:
            raise explained(name, error) from error  # one of ours stays as it is
    return str(place)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise WeightsError(f"{name!r} is not the name of a model on the Hub.", "It has two parts: USER/NAME.")
