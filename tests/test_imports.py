"""Imports only point down, read from the syntax tree of every module; and what is imported at all."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fastfcn"

# From the top down. A module imports modules of lower lines only; what stands in one pair of quotes (a folder, or
# modules that are one thing) may also import its own. Those on one line know nothing of each other, so the parts
# know neither the recipe nor how it is trained.
LAYERS = (
    ("__init__", "__main__"),
    ("cli",),
    ("demo", "bench", "export", "profile", "reproduce", "serve", "show_check"),
    ("speed", "reproduce_plan", "server", "client"),
    ("train",),
    ("report", "train_log"),
    ("pages",),
    ("findings",),
    ("loggers",),
    ("evaluate", "predict", "convert", "check", "init", "run", "show_recipes", "show_scores", "push"),
    ("video", "exports"),
    ("prediction", "show_info"),
    ("info",),
    ("weights",),
    ("build",),
    ("draft",),
    ("doctor", "machine", "pretrained", "published", "verdict"),
    (
        *("models", "data", "losses", "metrics", "visualize"),
        *("average", "checkpoint", "download", "hub", "official", "openmmlab", "recompute", "sliding", "state"),
        "recipe recipe_check recipe_network recipe_override recipe_schema recipe_upgrades recipe_values",
    ),
    ("ops", "kernels"),
    ("files", "progress", "pipeline"),
    ("errors",),
)
# Of the parts, these compute with `ops`; data and pictures have no need to.
USERS_OF_OPS = ("models", "losses", "metrics")
# Imported, and installed with a dependency; triton where there may be an NVIDIA GPU, and imported nowhere else.
COMES_WITH = {"huggingface_hub": "timm", "pydantic_core": "pydantic", "triton": "torch"}
IMPORTED_AS = {"pillow": "PIL"}

MODULES = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))}
PLACES = {name: (number, group) for number, line in enumerate(LAYERS) for group in line for name in group.split()}


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def name_in_table(module: str) -> str:
    """`data.streets.sky` -> `data`."""
    return module.split(".")[0]


def imported(module: str) -> Iterator[tuple[str, int]]:
    """Names in the table that a module imports, inside functions too, each with its line."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: import with the full name"
            parts = (node.module or "").split(".")
            if parts == ["fastfcn"]:  # modules, or what the package itself offers
                yield from ((alias.name if alias.name in PLACES else "__init__", node.lineno) for alias in node.names)
            elif parts[0] == "fastfcn":
                yield parts[1], node.lineno
        elif isinstance(node, ast.Import):
            for parts in (alias.name.split(".") for alias in node.names):
                if parts[0] == "fastfcn":
                    yield parts[1] if len(parts) > 1 else "__init__", node.lineno


def may_import(importer: str, wanted: str) -> bool:
    (upper, group), (lower, other) = PLACES[importer], PLACES[wanted]
    if group == other:
        return True
    if wanted == "ops" and upper == PLACES["models"][0]:
        return importer in USERS_OF_OPS
    return upper < lower


def test_every_module_has_its_place():
    assert sorted({name_in_table(module) for module in MODULES} - PLACES.keys()) == []


def test_every_place_is_taken():
    assert sorted(PLACES.keys() - {name_in_table(module) for module in MODULES}) == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str):
    importer = name_in_table(module)
    upward = [
        f"{module}, line {line}, imports {wanted}"
        for wanted, line in imported(module)
        if not may_import(importer, wanted)
    ]
    assert upward == []


@pytest.mark.parametrize(
    ("importer", "wanted", "allowed"),
    [
        ("cli", "train", True),
        ("train", "evaluate", True),
        ("data", "data", True),
        ("recipe", "recipe_schema", True),
        ("models", "ops", True),
        ("predict", "ops", True),
        ("evaluate", "train", False),
        ("evaluate", "predict", False),
        ("models", "recipe", False),
        ("data", "models", False),
        ("data", "ops", False),
        ("errors", "files", False),
        ("build", "__init__", False),
    ],
)
def test_the_rule_itself(importer: str, wanted: str, allowed: bool):
    assert may_import(importer, wanted) == allowed


def test_the_table_is_read_right():
    """Names of the package, of its modules and of functions in them, as they are written in cli and build."""
    assert {name for name, _ in imported("cli.__init__")} == {"cli", "errors"}
    assert {name for name, _ in imported("cli.training")} >= {"train", "recipe", "cli"}
    assert {name for name, _ in imported("build")} >= {"pretrained", "models", "data", "recipe"}


def test_packages_imported_at_once_are_dependencies():
    """Optional ones are imported inside the function that needs them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {each.split(">")[0].strip() for each in project["dependencies"]}
    allowed = {IMPORTED_AS.get(name, name) for name in named} | {
        name for name, owner in COMES_WITH.items() if owner in named
    }
    foreign = []
    for module in MODULES:
        for node in tree(module).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {name.split(".")[0] for name in names} - {"fastfcn"} - sys.stdlib_module_names
            foreign += [f"{module} imports {top}" for top in sorted(tops - allowed)]
    assert foreign == []


def test_nothing_is_unpickled():
    """No pickle, and the readers that could unpickle are told not to."""
    needed = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {getattr(node, "module", None)} | {alias.name for alias in node.names}
                assert not names & {"pickle", "dill", "joblib", "shelve", "marshal"}, f"{module}, line {node.lineno}"
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in needed:
                keywords = {
                    each.arg: ast.literal_eval(each.value) for each in node.keywords if each.arg in needed[called]
                }
                assert keywords == dict([needed[called]]), f"{module}, line {node.lineno}"


@pytest.mark.parametrize("module", ["fastfcn", "fastfcn.cli", "fastfcn.show_recipes"])
def test_what_is_quick_does_not_wait_for_torch(module: str):
    code = f"import sys, {module}; print(sorted({{'torch', 'timm', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
