"""The engine process gets what its libraries need, and no secret of the server."""

from __future__ import annotations

import pytest

from engine.process.environment import environment


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "TMPDIR", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "HF_HOME"),
        *("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "TRITON_CACHE_DIR"),
    ],
)
def test_the_engine_gets_what_its_libraries_need(name: str) -> None:
    assert environment({name: "x"})[name] == "x"


@pytest.mark.parametrize(
    "name",
    [
        *("SCENESHIFT_TOKEN", "SCENESHIFT_TURN_SECRET", "SCENESHIFT_PORT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        *("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "GOOGLE_APPLICATION_CREDENTIALS", "OPENAI_API_KEY"),
        *("SSH_AUTH_SOCK", "DATABASE_URL", "TORCH_HUB_TOKEN", "NVIDIA_API_KEY", "HTTPS_PROXY"),
    ],
)
def test_the_engine_gets_no_secret(name: str) -> None:
    assert name not in environment({name: "x"})


def test_what_the_engine_must_have_wins_over_ours() -> None:
    assert environment({"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "PASSIVE"
