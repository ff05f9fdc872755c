"""Which variables of our environment an engine process gets. Pure; `child.py` asks.

The engine reads strangers' prompts and perhaps a stranger's model, and runs more third-party code than the server. It
gets what its libraries need to run, and nothing that opens a door: no access token, no TURN secret, no cloud key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# The system, the interpreter, and where libraries keep and find files.
_PASSED = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LANGUAGE", "TZ", "XDG_CACHE_HOME", "VIRTUAL_ENV"),
        *("CONDA_PREFIX", "LD_LIBRARY_PATH", "LD_PRELOAD"),
        # Of compilers: a model is compiled here.
        *("CC", "CXX", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH"),
        *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"),
    )
)
# Settings of Python, of C libraries, of the arithmetic, and of the drivers.
_PASSED_FAMILIES = (
    *("LC_", "PYTHON", "MALLOC_", "GLIBC_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_"),
    *("TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "TRITON_"),
    *("CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "HIP_", "HSA_", "MIOPEN_", "ROCR_", "ROCM_", "SYCL_", "ZE_"),
)
# Whatever the family.
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|_KEY\b")
# OpenMP threads must sleep while they wait: otherwise two processes on two cores take ten times as long, not twice.
# glibc must keep large buffers instead of returning each to the kernel (a factor of 1.8 in the decoder).
_SET = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31),
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The engine process's environment, from ours."""
    return {name: value for name, value in ours.items() if _is_passed(name)} | _SET


def _is_passed(name: str) -> bool:
    return (name in _PASSED or name.startswith(_PASSED_FAMILIES)) and not _SECRET.search(name)
