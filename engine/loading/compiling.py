"""Compiles a transformer in the background while the engine already serves. Loop thread and one compile thread.

Compiling takes tens of seconds a shape, and no user should wait for it. `CompiledBehind` is called exactly like the
transformer. A new shape runs eager and goes to the compile thread. That thread runs it on a twin: its blocks are
compiled (regionally: all blocks share one piece of code) and its weights are the transformer's own. From then on the
shape runs compiled. A failure is noted, and that shape stays eager.

A twin does not follow hooks in the transformer (fp8 casting, group offload) or switches on it (LoRA). In these cases
the caller must not compile. Tracing holds the Python interpreter, so steps that run meanwhile take a little longer.
"""

from __future__ import annotations

import copy
import logging
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch._dynamo
from torch import nn

from engine.loading.device_memory import is_out_of_memory

logger = logging.getLogger(__name__)

# One step's inputs by name: (name, shape, dtype) of each tensor.
_Shape = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]

# A ladder of sizes times joint rows. By default, torch.compile gives up after eight.
_MAX_SHAPES = 32


class CompiledBehind:
    """Takes the transformer's place. `backend` is torch.compile's; only tests choose it."""

    def __init__(self, transformer: nn.Module, *, backend: str = "inductor") -> None:
        self._eager = transformer
        self._backend = backend
        # Made by the compile thread.
        self._twin: nn.Module | None = None
        self._stream: torch.cuda.Stream | None = None
        # Written by the compile thread, read by the loop thread: each a single assignment of an immutable value.
        self._compiled: frozenset[_Shape] = frozenset()
        self._failed: frozenset[_Shape] = frozenset()
        self._notes: tuple[str, ...] = ()
        # Written by the loop thread. Bounded by the number of shapes that a profile's ladder can make.
        self._wanted: dict[_Shape, float] = {}
        self._inbox: queue.SimpleQueue[tuple[_Shape, dict[str, Any]] | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._compile_all, name="compile", daemon=True)

    def __call__(self, **inputs: Any) -> Any:
        shape = _shape(inputs)
        if shape in self._compiled and self._twin is not None:
            try:
                return self._twin(**inputs)
            except Exception as error:
                # A compiled kernel that fails must not cost the clip. The worker handles a lack of memory.
                if is_out_of_memory(error):
                    raise
                self._give_up(shape, error)
        outputs = self._eager(**inputs)
        self._want(shape, inputs)
        return outputs

    def parameters(self) -> Iterator[nn.Parameter]:
        return self._eager.parameters()

    @property
    def config(self) -> Any:
        return self._eager.config

    @property
    def dtype(self) -> torch.dtype:
        # Not that of the first parameter: Wan keeps some modules in float32.
        dtype: torch.dtype = self._eager.dtype  # type: ignore[assignment]
        return dtype

    @property
    def compiled(self) -> tuple[str, ...]:
        """Shapes that run compiled now, for the report."""
        return tuple(_told(shape) for shape in self._wanted if shape in self._compiled)

    @property
    def compiling(self) -> tuple[str, ...]:
        ended = self._compiled | self._failed
        return tuple(_told(shape) for shape in self._wanted if shape not in ended)

    @property
    def notes(self) -> tuple[str, ...]:
        """The shapes that could not be compiled, and why."""
        return self._notes

    def close(self) -> None:
        """Accepts no more shapes. Returns at once; the compile thread ends when its queue is empty."""
        self._is_closed = True
        self._inbox.put(None)

    # --- loop thread ----------------------------------------------------------------------------------------------

    def _want(self, shape: _Shape, inputs: dict[str, Any]) -> None:
        if shape in self._wanted or len(self._wanted) >= _MAX_SHAPES or self._is_closed:
            return
        self._wanted[shape] = time.monotonic()
        # Zeros: the values do not matter, and the generation's own tensors are not kept alive.
        like = {name: torch.zeros_like(value) if _is_tensor(value) else value for name, value in inputs.items()}
        self._inbox.put((shape, like))
        if not self._thread.is_alive():
            self._thread.start()

    def _give_up(self, shape: _Shape, error: Exception) -> None:
        self._compiled -= {shape}
        self._failed |= {shape}
        reason = " ".join(str(error).split())[:200]
        self._notes += (f"{_told(shape)} runs eager: {type(error).__name__}: {reason}",)
        logger.warning("! compile %s", self._notes[-1])

    # --- compile thread -------------------------------------------------------------------------------------------

    def _compile_all(self) -> None:
        while (wanted := self._inbox.get()) is not None:
            shape, inputs = wanted
            began_at = time.monotonic()
            try:
                self._compile(inputs)
            except Exception as error:
                # Compilers fail in many ways (no C compiler, no Triton, a bug); the shape stays eager.
                self._give_up(shape, error)
            else:
                self._compiled |= {shape}
                logger.info("= compiled %s in %.0f s", _told(shape), time.monotonic() - began_at)

    def _compile(self, inputs: dict[str, Any]) -> None:
        device = next(self._eager.parameters()).device
        if self._twin is None:
            self._twin = _twin(self._eager, self._backend)
        if device.type == "cuda":
            self._stream = self._stream or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            with torch.cuda.device(device), torch.cuda.stream(self._stream):
                _run(self._twin, inputs)
                self._stream.synchronize()
            # The allocator reserves this stream's memory for this stream, which no longer needs it.
            torch.cuda.empty_cache()
        else:
            _run(self._twin, inputs)


@torch.inference_mode()
def _run(twin: nn.Module, inputs: dict[str, Any]) -> None:
    twin(**inputs)


def _twin(transformer: nn.Module, backend: str) -> nn.Module:
    """A copy of the modules over the same weights. Its blocks are compiled at the first call of each shape."""
    kept: dict[int, Any] = {id(tensor): tensor for tensor in (*transformer.parameters(), *transformer.buffers())}
    twin = copy.deepcopy(transformer, kept)
    repeated = getattr(transformer, "_repeated_blocks", None) or ()
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MAX_SHAPES)
    for module in twin.modules():
        if type(module).__name__ in repeated:
            # One kernel for each shape: a kernel for all shapes would be slower, and would come into use unnoticed.
            module.compile(backend=backend, dynamic=False)
    return twin


def _shape(inputs: dict[str, Any]) -> _Shape:
    return tuple((name, tuple(value.shape), value.dtype) for name, value in sorted(inputs.items()) if _is_tensor(value))


def _told(shape: _Shape) -> str:
    """``7x16x26, batch 2`` of a latent clip [2, C, 7, 16, 26]; ``+ 5,070 timesteps`` if each token has its own."""
    sides = {name: side for name, side, _ in shape}
    batch, _, *clip = sides["hidden_states"]
    timesteps = sides.get("timestep", ())
    tokens = f", {timesteps[1]} timesteps" if len(timesteps) > 1 else ""
    return f"{'x'.join(map(str, clip))}, batch {batch}{tokens}"


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
