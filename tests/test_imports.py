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

# From the top down. A module may import its own folder and everything on lower lines; places on one line do not know
# each other. A place is a folder of the package, a file in it, or (with a dot) part of a folder.
LAYERS = (
    ("__init__", "__main__"),
    ("api", "cli"),
    ("demo",),
    ("cli.tables",),
    ("bench", "exporting", "ray", "report", "reproduce", "serving", "client"),
    ("training",),
    ("evaluation",),
    ("prediction",),
    ("weights", "init"),
    ("build", "checking", "demo.streets", "fast"),
    ("data", "losses", "metrics", "models", "recipes", "visualize"),
    ("kernels", "ops"),
    ("utils",),
    ("errors",),
)
# Of the parts, these compute with `ops`; data and visualization do not.
USERS_OF_OPS = ("models", "losses", "metrics")
# Imported, and installed with a dependency; triton only with NVIDIA GPUs, and imported only then.
COMES_WITH = {"markupsafe": "jinja2", "pydantic_core": "pydantic", "triton": "torch", "yaml": "timm"}
IMPORTED_AS = {"huggingface-hub": "huggingface_hub", "lightning-fabric": "lightning_fabric", "pillow": "PIL"}

MODULES = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))}
PLACES = {name: number for number, line in enumerate(LAYERS) for name in line}


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def place_of(module: str) -> str:
    """The longest entry of the table that contains a module: `demo.streets.canvas` -> `demo.streets`."""
    parts = module.split(".")
    return next((".".join(parts[:n]) for n in (2, 1) if ".".join(parts[:n]) in PLACES), parts[0])


def imported(module: str) -> Iterator[tuple[str, int]]:
    """Places that a module imports from, inside functions too, each with its line."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: import with the full name"
            parts = (node.module or "").split(".")
            if parts == ["fastfcn"]:  # modules, or public names of the package
                yield from ((alias.name if alias.name in PLACES else "__init__", node.lineno) for alias in node.names)
            elif parts[0] == "fastfcn":
                for alias in node.names:
                    yield place_of(".".join([*parts[1:], alias.name])), node.lineno
        elif isinstance(node, ast.Import):
            for parts in (alias.name.split(".") for alias in node.names):
                if parts[0] == "fastfcn":
                    yield place_of(".".join(parts[1:])) if len(parts) > 1 else "__init__", node.lineno


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if imported == "ops" and PLACES[importer] == PLACES["models"]:
        return importer in USERS_OF_OPS
    return PLACES[importer] < PLACES[imported]


def test_every_module_has_its_place():
    assert sorted({place_of(module) for module in MODULES} - PLACES.keys()) == []


def test_every_place_is_taken():
    assert sorted(PLACES.keys() - {place_of(module) for module in MODULES}) == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str):
    importer = place_of(module)
    upward = [
        f"{module}, line {line}, imports {target}"
        for target, line in imported(module)
        if not may_import(importer, target)
    ]
    assert upward == []


@pytest.mark.parametrize(
    ("importer", "target", "allowed"),
    [
        ("cli", "training", True),
        ("training", "evaluation", True),
        ("data", "data", True),
        ("models", "ops", True),
        ("prediction", "ops", True),
        ("serving", "demo.streets", True),
        ("evaluation", "training", False),
        ("prediction", "evaluation", False),
        ("training", "report", False),
        ("models", "recipes", False),
        ("data", "models", False),
        ("data", "ops", False),
        ("errors", "utils", False),
        ("build", "__init__", False),
    ],
)
def test_the_rule_itself(importer: str, target: str, allowed: bool):
    assert may_import(importer, target) == allowed


def test_no_module_imports_itself_through_others():
    """No cycle of modules either, in a folder or between folders; `import fastfcn` itself imports lazily."""
    edges = {module: set(direct_imports(module)) for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in edges[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def direct_imports(module: str) -> Iterator[str]:
    """Modules that a module imports at import time; packages as the modules that their `__init__` imports."""
    for node in tree(module).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastfcn."):
            base = (node.module or "").removeprefix("fastfcn.")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield next((m for m in (name, f"{name}.__init__", base) if m in MODULES), f"{base}.__init__")


def test_no_cycles_in_benchmarks():
    """Imports inside functions count, too."""
    folder = ROOT / "benchmarks"
    modules = {".".join(path.relative_to(folder).with_suffix("").parts): path for path in folder.rglob("*.py")}
    modules |= {path.stem: path for path in (folder / "parity").glob("*.py")}  # its scripts import each other by name

    def imports(module: str) -> Iterator[str]:
        for node in ast.walk(ast.parse(modules[module].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in modules)
            elif isinstance(node, ast.ImportFrom):
                names = {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
                yield from names & modules.keys()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        for other in imports(module):
            visit(other, (*path, module))

    for module in modules:
        visit(module, ())


def test_the_table_is_read_right():
    """Names of the package, of its modules and of functions in them, as they are written in cli and build."""
    assert {name for name, _ in imported("cli.__init__")} == {"cli", "errors"}
    assert {name for name, _ in imported("cli.train")} >= {"training", "recipes", "cli"}
    assert {name for name, _ in imported("build")} >= {"losses", "models", "data", "recipes"}


def test_packages_imported_at_once_are_dependencies():
    """Optional ones are imported inside the function that needs them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {dependency.split(">")[0].strip() for dependency in project["dependencies"]}
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
    """No pickle, and readers that could unpickle are called with safe options."""
    needed = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {getattr(node, "module", None)} | {alias.name for alias in node.names}
                assert not names & {"pickle", "dill", "joblib", "shelve", "marshal"}, f"{module}, line {node.lineno}"
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in needed:
                keywords = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg in needed[called]}
                assert keywords == dict([needed[called]]), f"{module}, line {node.lineno}"


@pytest.mark.parametrize("module", ["fastfcn", "fastfcn.cli", "fastfcn.cli.tables.recipes"])
def test_fast_modules_do_not_import_torch(module: str):
    code = f"import sys, {module}; print(sorted({{'torch', 'timm', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("train --help", 0),
        ("recipes", 0),
        ("recipe demo optim.lr=0.02", 0),
        ("recipe fastfcn_r50_psp_camvid dilated_r50_psp_camvid", 0),
        ("train nosuch --data data --out run", 2),
        ("reproduce nosuch --data data", 2),
        ("bench nosuch", 2),
        ("profile nosuch.safetensors", 2),
        ("evaluate nosuch.safetensors --data data", 2),
        ("predict nosuch.onnx a.png --out out", 2),
        ("info nosuch.safetensors", 2),
        ("serve nosuch.safetensors", 2),
        ("push nosuch.safetensors me/streets", 2),
        ("export nosuch.safetensors --format onnx --out a.onnx", 2),
        ("convert nosuch.pth --recipe demo --out a.safetensors", 2),
    ],
)
def test_fast_commands_do_not_import_torch(arguments: str, code: int):
    """In particular those that end with an unknown recipe or a missing file."""
    program = f"""
import sys
from fastfcn.cli import main
sys.argv = ["fastfcn", *{arguments.split()!r}]
try:
    main()
    code = 0
except SystemExit as stop:
    code = stop.code
print(code, sorted({{'torch', 'timm', 'numpy'}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{code} []", done
