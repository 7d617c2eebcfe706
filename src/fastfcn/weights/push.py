"""`fastfcn push`: upload a weights file to the Hugging Face Hub, with a model card."""

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from fastfcn import weights
from fastfcn.errors import UserError, WeightsError
from fastfcn.utils.files import make_folder, replace_file, write_text
from fastfcn.weights.hub import FILE, LOGIN_HINT, user_error
from fastfcn.weights.info import info as read_info
from fastfcn.weights.model_card import model_card

NAME = re.compile(r"[\w.-]+/[\w.-]+")


def write_files(path: str | Path, name: str, folder: str | Path, license: str | None = None) -> list[Path]:
    """Write the files that `push` uploads for the weights file `path` into `folder`; returns their paths.

    README.md (the model card), weights.safetensors, recipe.toml, and config.json (what `info` returns), by which the
    Hub counts downloads. Raises WeightsError and OutputError.
    """
    _check_name(name)
    info, target = read_info(path), make_folder(folder)
    info["file"] = FILE
    recipe = weights.read(path).recipe.text
    write_text(target / "README.md", model_card(name, info, recipe, license))
    write_text(target / "recipe.toml", recipe)
    write_text(target / "config.json", json.dumps({"library_name": "fastfcn"} | info, indent=1) + "\n")
    if not (target / FILE).exists() or not (target / FILE).samefile(path):
        with replace_file(target / FILE) as temporary:
            shutil.copyfile(path, temporary)
    return [target / file for file in ("README.md", FILE, "recipe.toml", "config.json")]


def push(path: str | Path, name: str, private: bool = False, message: str = "", license: str | None = None) -> str:
    """Upload a weights file as the model `USER/NAME`, which is created if it does not exist; returns its URL.

    An existing model gets a new version; its other files are kept. Raises WeightsError if `path` is not a weights
    file, and UserError without a login, write access or network.
    """
    from huggingface_hub import HfApi, get_token

    _check_name(name)
    if not get_token():
        raise UserError(
            f"Cannot upload to {name}: you are not logged in to the Hugging Face Hub.",
            f"{LOGIN_HINT} To see the files first: --dry-run FOLDER",
        )
    with TemporaryDirectory() as folder:
        write_files(path, name, folder, license)
        api = HfApi(library_name="fastfcn")
        try:
            url = api.create_repo(name, private=private, exist_ok=True)
            if private and not api.model_info(name).private:
                raise UserError(f"{name} already exists and is public: nothing was uploaded.", "Choose another name.")
            api.upload_folder(repo_id=name, folder_path=folder, commit_message=message or "Weights from fastfcn")
        except Exception as error:
            raise user_error(name, error) from error  # a UserError stays as it is
    return str(url)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise WeightsError(f"Invalid model name {name!r}.", "Use the form USER/NAME.")
