"""`--busy N` starts N processes beside the bench, in its session, and leaves none behind, however the bench ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.live import glass
from bench.parts.busy import beside_busy, busy, fair_share


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_busy_processes_share_our_session_and_end_with_a_failing_block() -> None:
    pids: list[int] = []
    with pytest.raises(ZeroDivisionError):
        async with busy(2) as pids:
            assert [os.getsid(pid) for pid in pids] == [os.getsid(0)] * 2
            assert [os.getpgid(pid) for pid in pids] == [os.getpgid(0)] * 2
            raise ZeroDivisionError
    assert len(pids) == 2 and not any(map(is_running, pids))


async def test_busy_processes_end_with_a_killed_bench() -> None:
    script = (
        "import asyncio\nfrom bench.parts.busy import busy\n"
        "async def main():\n"
        "    async with busy(1) as pids:\n"
        "        print(pids[0], flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    root = Path(__file__).parents[3]
    bench = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE, cwd=root)
    assert bench.stdout is not None
    pid = int(await bench.stdout.readline())
    bench.kill()
    await bench.communicate()  # the pipe ends when the last process that holds it has ended
    async with asyncio.timeout(30):
        while is_running(pid):  # noqa: ASYNC110 (no event of another's child)
            await asyncio.sleep(0.01)


async def test_work_beside_busy_processes_gives_its_result() -> None:
    assert await beside_busy(0, asyncio.sleep(0, "done")) == "done"


def test_the_fair_share_is_relative_to_the_engine_alone() -> None:
    assert fair_share(0, num_cores=2, num_threads=2) == 1.0
    assert fair_share(3, num_cores=2, num_threads=2) == pytest.approx(0.4)  # 0.8 of 2 cores
    assert fair_share(3, num_cores=2, num_threads=1) == pytest.approx(0.5)  # half a core of one
    assert fair_share(1, num_cores=8, num_threads=4) == 1.0  # there is room for everybody


def test_the_play_ratio_beside_busy_processes_ignores_earlier_frames() -> None:
    seconds = [(1000.0, 100, 100, 42.0), (2000.0, 124, 112, 90.0), (3000.0, 148, 124, 90.0)]
    assert glass._ratio_since(seconds, 1500.0) == 0.5
    assert glass._ratio_since(seconds, 3500.0) == 1.0


def test_glass_beside_busy_processes_checks_pictures_losses_and_clip_time() -> None:
    met = {"busy": {"engines_lost": 0, "prompts_on_air": 8, "clip_times_fair": 1.4}}
    good = met | {"prompts": 8, "prompts_with_exactly_one_end": 8}
    assert all(glass._met_beside_busy(good).values())
    for name, value in (
        ("engines_lost", 1),
        ("prompts_on_air", 7),
        ("clip_times_fair", 1.6),
        ("clip_times_fair", None),
    ):
        bad = good | {"busy": good["busy"] | {name: value}}  # type: ignore[operator]
        assert not all(glass._met_beside_busy(bad).values()), name
