"""Imports run one way. The tests read the sources, so that lazy imports count, too."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "diffusers", "transformers", "safetensors"}

# A module may import modules of its own layer or below it. A folder's name stands for all modules in it.
SERVER_LAYERS = [
    {"server.__main__"},
    {"server.app", "server.doctor", "server.generate"},
    {"server.doors"},
    {"server.doors.access"},
    {"server.clips"},
    {"server.webhooks"},
    {"server.session"},
    {"server.media.program", "server.media.snapshot"},
    {"server.media.mp4", "server.media.webrtc"},
    {"server.media.sound", "server.media.video", "server.media.program_format"},
    {"server.stage", "server.metrics"},
    {"server.accounts"},
    {"server.store"},
    {"server.run_file"},
    {"server.protocol", "server.config", "server.essential", "server.rarely", "server.token_bucket"},
    {"server.clock"},
]
# Layers of the engine, top down: the commands, the engines, then what runs in the engine process.
ENGINE_LAYERS = [
    {"engine.tools"},
    {"engine.process", "engine.clip_cache", "engine.synthetic"},
    {"engine.loading"},
    {"engine.parts"},
    {"engine.arbiter"},
    {"engine.embedded"},
    {"engine.config"},
    {"engine.api"},
]


def modules(package: str) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__init__.py"
    }


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, `TYPE_CHECKING` blocks included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module: str, layers: list[set[str]]) -> int | None:
    """The layer that names the module, or the innermost package around it that a layer names."""
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        for index, layer in enumerate(layers):
            if ".".join(parts[:length]) in layer:
                return index
    return None


SERVER = modules("server")
ENGINE = modules("engine")
TRAINING = modules("training")
BENCH = modules("bench")


@pytest.mark.parametrize("module", SERVER)
def test_server_imports_run_one_way(module: str) -> None:
    check_layers(module, SERVER[module], "server", SERVER_LAYERS)


@pytest.mark.parametrize("module", ENGINE)
def test_engine_imports_run_one_way(module: str) -> None:
    check_layers(module, ENGINE[module], "engine", ENGINE_LAYERS)


def check_layers(module: str, path: Path, package: str, layers: list[set[str]]) -> None:
    own_layer = layer_of(module, layers)
    assert own_layer is not None, f"{module} has no layer: give it one here and in DESIGN.md"
    for imported in imports(path):
        layer = layer_of(imported, layers) if imported.startswith(f"{package}.") else None
        assert layer is None or layer >= own_layer, f"{module} imports {imported}, which stands above it"


@pytest.mark.parametrize("module", SERVER)
def test_the_server_imports_no_model_code(module: str) -> None:
    assert not {imported.split(".")[0] for imported in imports(SERVER[module])} & HEAVY


@pytest.mark.parametrize("module", [name for name in SERVER if name != "server.__main__"])
def test_the_server_knows_only_engine_api(module: str) -> None:
    """`server.__main__` alone puts an engine behind it."""
    known = {imported for imported in imports(SERVER[module]) if imported.split(".")[0] == "engine"}
    assert all(imported == "engine.api" or imported.startswith("engine.api.") for imported in known), known


@pytest.mark.parametrize("module", ENGINE)
def test_the_engine_knows_no_network_and_no_server(module: str) -> None:
    assert not {imported.split(".")[0] for imported in imports(ENGINE[module])} & {"aiohttp", "aiortc", "server"}


SDK = {path.stem: path for path in sorted((ROOT / "client_web" / "python" / "sceneshift").glob("*.py"))}
SDK_LAYERS = [
    {"sceneshift.blocking"},
    {"sceneshift.session"},
    {"sceneshift.prompt", "sceneshift.conversation", "sceneshift.buffer", "sceneshift.address"},
    {"sceneshift.decoding", "sceneshift.errors", "sceneshift.run_file"},
    {"sceneshift.protocol"},
]


@pytest.mark.parametrize("module", [name for name in SDK if name not in ("__init__", "events")])
def test_the_python_sdk_imports_run_one_way(module: str) -> None:
    check_layers(f"sceneshift.{module}", SDK[module], "sceneshift", SDK_LAYERS)


@pytest.mark.parametrize("module", SDK)
def test_the_python_sdk_knows_nothing_else_of_ours(module: str) -> None:
    theirs = {
        name for name in imports(SDK[module]) if name.split(".")[0] not in {*sys.stdlib_module_names, "sceneshift"}
    }
    assert {name.split(".")[0] for name in theirs} <= {"msgspec", "websockets"}


def test_the_python_sdk_is_imported_where_there_is_no_server(tmp_path: Path) -> None:
    """In an interpreter that finds the SDK, but neither the server nor its dependencies."""
    program = (
        "import importlib.util, sys\n"
        "import sceneshift, sceneshift.events\n"
        "assert importlib.util.find_spec('server') is None\n"
        "print({'torch', 'aiohttp', 'aiortc', 'av', 'numpy'} & set(sys.modules))"
    )
    (tmp_path / "sceneshift").symlink_to(ROOT / "client_web" / "python" / "sceneshift")
    for name in ("msgspec", "websockets"):
        origin = importlib.util.find_spec(name)
        assert origin is not None and origin.origin is not None
        (tmp_path / name).symlink_to(Path(origin.origin).parent)
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_engine_api_needs_numpy_only() -> None:
    roots = {imported.split(".")[0] for imported in imports(ENGINE["engine.api"])}
    assert roots <= {"__future__", "collections", "dataclasses", "enum", "typing", "numpy"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {**SERVER, **ENGINE, **TRAINING}
    arrows = {module: known.keys() & set(imports(path)) for module, path in known.items()}
    graphlib.TopologicalSorter(arrows).prepare()  # raises `CycleError`, which names the cycle


@pytest.mark.parametrize("package", ["server", "engine", "training", "bench"])
def test_a_package_file_holds_a_docstring_and_nothing_else(package: str) -> None:
    for path in (ROOT / package).rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree) and len(tree.body) == 1, path


@pytest.mark.parametrize("module", [*SERVER, *ENGINE, *BENCH, *SDK])
def test_shipped_code_imports_no_training(module: str) -> None:
    path = {**SERVER, **ENGINE, **BENCH, **SDK}[module]
    assert "training" not in {imported.split(".")[0] for imported in imports(path)}


@pytest.mark.parametrize("module", TRAINING)
def test_training_knows_the_engine_and_nothing_else_of_ours(module: str) -> None:
    roots = {imported.split(".")[0] for imported in imports(TRAINING[module])}
    assert not roots & {"server", "bench", "sceneshift", "aiohttp", "aiortc"}
