"""The structure of the repository: folders, classes and functions stay small, and `tests/` mirrors the tree."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("server", "engine", "training", "bench", "client_web/python/sceneshift")
MOST_MODULES_IN_A_FOLDER = 16
MOST_FILES_IN_A_CLIENT_FOLDER = 20
MOST_LINES_OF_A_CLASS = 450
MOST_METHODS_OF_A_CLASS = 35
MOST_LINES_OF_A_FUNCTION = 60
# Code that is still larger; it may shrink, not grow.
LARGER = {}

# Modules without a test of their own, and the test that covers each.
COVERED_BY = {
    "engine/api.py": "engine/test_synthetic.py",
    "engine/arbiter/foresight.py": "engine/process/test_supervisor.py",
    "engine/arbiter/promise.py": "engine/arbiter/test_arbiter.py",
    "engine/arbiter/work.py": "engine/arbiter/test_arbiter.py",
    "engine/clip_cache/clip_file.py": "engine/clip_cache/test_caching_engine.py",
    "engine/clip_cache/ranking.py": "engine/clip_cache/test_caching_engine.py",
    "engine/embedded/lexicon_words.py": "engine/embedded/test_lexicon.py",
    "engine/embedded/places.py": "engine/embedded/test_reading.py",
    "engine/embedded/spec.py": "engine/embedded/test_reading.py",
    "engine/loading/device_memory.py": "engine/loading/test_memory_plan.py",
    "engine/loading/device_residency.py": "engine/loading/test_models.py",
    "engine/loading/part_sizes.py": "engine/loading/test_memory_plan.py",
    "engine/loading/placing.py": "engine/loading/test_memory_plan.py",
    "engine/loading/published_configs.py": "engine/loading/test_memory_plan.py",
    "engine/parts/first_frame.py": "engine/parts/test_wan_parity.py",
    "engine/parts/generation.py": "engine/parts/test_denoiser.py",
    "engine/parts/noise_schedule.py": "engine/parts/test_denoiser.py",
    "engine/parts/preview.py": "engine/parts/test_linear_preview.py",
    "engine/parts/text_encoder.py": "engine/loading/test_models.py",
    "engine/parts/umt5.py": "engine/parts/test_wan_parity.py",
    "engine/process/child.py": "engine/process/test_supervisor.py",
    "engine/process/event_queue.py": "engine/process/test_supervisor.py",
    "engine/process/ledger.py": "engine/process/test_engine_process.py",
    "engine/process/spare.py": "engine/process/test_supervisor.py",
    "engine/tools/fit_preview.py": "engine/parts/test_linear_preview.py",
    "server/accounts/account.py": "server/accounts/test_accounts.py",
    "server/accounts/payer.py": "server/accounts/test_accounts.py",
    "server/app.py": "server/doors/test_realtime.py",
    "server/clips/folder.py": "server/clips/test_queue.py",
    "server/clips/job.py": "server/clips/test_queue.py",
    "server/clips/rows.py": "server/clips/test_queue.py",
    "server/clips/writer.py": "server/clips/test_queue.py",
    "server/doors/videos/wishes.py": "server/doors/videos/test_api.py",
    "server/doors/access/audit_cli.py": "server/doors/access/test_keys.py",
    "server/doors/access/backup_cli.py": "server/store/test_backup.py",
    "server/doors/access/erase_cli.py": "server/doors/videos/test_api_erase.py",
    "server/doors/access/gate.py": "server/doors/access/test_keys.py",
    "server/doors/access/keyring.py": "server/doors/access/test_keys.py",
    "server/doors/access/token_cli.py": "server/doors/access/test_keys.py",
    "server/doors/operators/keys_api.py": "server/doors/access/test_keys.py",
    "server/doors/operators/operator_api.py": "server/doors/access/test_keys.py",
    "server/rarely.py": "server/doors/test_connections.py",
    "server/store/spent.py": "server/accounts/test_accounts.py",
    "server/store/keys.py": "server/doors/access/test_keys.py",
    "server/store/migrations.py": "server/store/test_store.py",
    "server/doors/http_api.py": "server/doors/test_realtime.py",
    "server/webhooks/rows.py": "server/webhooks/test_courier.py",
    "server/doors/websocket.py": "server/doors/test_realtime.py",
    "server/generate/maker.py": "server/generate/test_run.py",
    "server/media/program_format.py": "server/media/test_program.py",
    "server/media/snapshot.py": "server/doors/test_downloads.py",
    "server/media/sound/audio_track.py": "server/media/sound/test_audio.py",
    "server/media/sound/tunes.py": "server/media/sound/test_music.py",
    "server/media/video/frame_maker.py": "server/media/test_program.py",
    "server/media/video/rendition.py": "server/media/video/test_encoder.py",
    "server/media/webrtc/sdpfrag.py": "server/doors/test_whep.py",
    "server/media/webrtc/stock_sender.py": "server/media/webrtc/test_peer.py",
    "server/metrics.py": "server/session/test_registry.py",
    "server/protocol/clients.py": "server/protocol/test_table.py",
    "server/protocol/codes.py": "server/protocol/test_decoding.py",
    "server/protocol/limits.py": "server/accounts/test_accounts.py",
    "server/protocol/errors.py": "server/protocol/test_protocol_document.py",
    "server/protocol/messages.py": "server/protocol/test_protocol_document.py",
    "server/doors/json_http.py": "server/doors/videos/test_api.py",
    "server/doors/secrets_api.py": "server/doors/access/test_client_secrets.py",
    "server/session/capabilities.py": "server/session/test_session_options.py",
    "server/session/answered.py": "server/session/test_session.py",
    "server/session/continuation.py": "server/session/test_session_options.py",
    "server/session/neighbours.py": "server/session/test_session.py",
    "server/session/slot.py": "server/session/test_prompt.py",
    "server/stage/picture.py": "server/stage/test_stage.py",
    "server/stage/shots.py": "server/stage/test_stage.py",
    "training/curves.py": "training/test_training.py",
    "training/data/clip_files.py": "training/test_training.py",
    "training/data/dataset.py": "training/test_training.py",
    "training/evaluation/classifier.py": "training/evaluation/test_evaluate.py",
    "training/evaluation/sampling.py": "engine/embedded/test_modules.py",
    "training/export.py": "training/test_training.py",
    "training/few_steps.py": "training/test_training.py",
    "training/optim.py": "training/test_training.py",
    "training/train.py": "training/test_training.py",
    "training/train_autoencoder.py": "training/test_training.py",
    "training/train_generator.py": "training/test_training.py",
    "training/world/drawing.py": "training/world/test_world.py",
    "training/world/palette_and_camera.py": "training/world/test_world.py",
    "training/world/scenes.py": "training/world/test_world.py",
    "training/world/scenes_indoors.py": "training/world/test_world.py",
    "training/world/scenes_outdoors.py": "training/world/test_world.py",
    "training/world/subjects.py": "training/world/test_world.py",
    "training/world/weather.py": "training/world/test_world.py",
}
# Tests across several modules.
ACROSS = {
    "engine/loading/test_on_gpu.py",
    "engine/parts/test_wan_parity.py",
    "engine/process/test_engine_process.py",
    "engine/process/test_task_death.py",
    "server/doors/access/test_budgets.py",
    "server/doors/access/test_keys.py",
    "server/doors/access/test_matrix.py",
    "server/doors/test_realtime.py",
    "server/doors/test_strangers.py",
    "server/protocol/test_protocol_document.py",
    "server/test_wan_on_stage.py",
}

MODULES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
# A measurement, run by hand like those of `bench/`.
UNTESTED = ROOT / "training" / "evaluation" / "scaling.py"
MIRRORED = [
    path for path in MODULES if path.relative_to(ROOT).parts[0] in ("server", "engine", "training") and path != UNTESTED
]
TESTS = sorted(
    path for package in ("server", "engine", "training") for path in (ROOT / "tests" / package).rglob("test_*.py")
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def own_tests(module: Path) -> set[Path]:
    """`test_MODULE.py` where the mirror of the module's folder is, or more of them: `test_MODULE_….py`."""
    folder = ROOT / "tests" / module.relative_to(ROOT).parent
    return {*folder.glob(f"test_{module.stem}.py"), *folder.glob(f"test_{module.stem}_*.py")}


def sizes(path: Path) -> Iterator[tuple[str, int, int]]:
    """Each class and function of a module: its name, its lines over the limit's measure, and the limit."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        name = f"{name_of(path)}: {node.name}"
        num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if isinstance(node, ast.ClassDef):
            methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)]
            yield f"{name}, lines", num_lines, MOST_LINES_OF_A_CLASS
            yield f"{name}, methods", len(methods), MOST_METHODS_OF_A_CLASS
        else:
            yield f"{name}, lines", num_lines, MOST_LINES_OF_A_FUNCTION


def test_no_folder_holds_too_many_modules() -> None:
    counts = Counter(path.parent for path in MODULES)
    assert {name_of(folder): count for folder, count in counts.items() if count > MOST_MODULES_IN_A_FOLDER} == {}


def test_no_folder_of_the_pages_holds_too_many_files() -> None:
    files = (path for path in (ROOT / "client_web").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    counts = Counter(path.parent for path in files)
    assert {name_of(folder): count for folder, count in counts.items() if count > MOST_FILES_IN_A_CLIENT_FOLDER} == {}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_classes_and_functions_stay_small(module: Path) -> None:
    too_large = {name: size for name, size, most in sizes(module) if size > LARGER.get(name, most)}
    assert too_large == {}


def test_the_list_of_larger_code_names_nothing_that_became_small() -> None:
    large = {name for module in MODULES for name, size, most in sizes(module) if size > most}
    assert set(LARGER) == large


@pytest.mark.parametrize("module", MIRRORED, ids=name_of)
def test_each_module_has_a_test_or_a_neighbour_that_covers_it(module: Path) -> None:
    covering = COVERED_BY.get(name_of(module))
    if covering is None:
        assert own_tests(module), f"give {name_of(module)} a test, or name in COVERED_BY the one that covers it"
    else:
        assert not own_tests(module), f"{name_of(module)} has a test of its own: it needs no neighbour"
        assert (ROOT / "tests" / covering).is_file()


@pytest.mark.parametrize("test", TESTS, ids=name_of)
def test_each_test_stands_where_its_module_stands(test: Path) -> None:
    of_modules = {found for module in MIRRORED for found in own_tests(module)}
    named = {ROOT / "tests" / name for name in (*COVERED_BY.values(), *ACROSS)}
    assert test in of_modules | named | {ROOT / "tests" / "server" / "test_main.py"}


def test_the_lists_name_only_what_is_there() -> None:
    assert [name for name in COVERED_BY if not (ROOT / name).is_file()] == []
    assert [name for name in ACROSS if not (ROOT / "tests" / name).is_file()] == []
