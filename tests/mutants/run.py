"""`make mutants`: changes the code in one place at a time and counts how often a test notices.

A change is a mutant; a test that fails kills it. mutmut makes the mutants and runs, for each, the tests that call its
function. This script draws a sample by a seed, keeps away from the sources (all happens in a copy), and tells what
survived. `[tool.mutmut]` in pyproject.toml says which modules and tests; `equivalent.toml` names the mutants that no
test can kill, with the reason.

mutmut changes functions and methods. What stands outside of them, properties and other decorated functions are left
as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
GOAL = 0.9
# mutmut's exit codes: a test failed, pytest broke; the time was up (its own signal, the last resort).
_KILLED = {1, 3, 24, -24, 152, 36, -9}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"  # with which mutmut shows that it is busy
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, order=True)
class Mutant:
    """`before` and `after` are the lines that differ, so that a mutant is known again when the lines around it move."""

    path: str
    name: str  # mutmut's
    function: str
    before: str
    after: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return Path(self.path).stem, self.function, self.before, self.after

    @property
    def is_wording(self) -> bool:
        """Only a sentence for people differs: it may be put better without a test. What clients read are codes."""
        return _without_sentences(self.before) == _without_sentences(self.after)

    def __str__(self) -> str:
        lines = [f"{self.path} {self.function}"]
        lines += [f"    - {line}" for line in self.before.split("\n")]
        lines += [f"    + {line}" for line in self.after.split("\n")]
        return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same mutants")
    parser.add_argument("--per-module", type=int, default=100, help="mutants drawn from each module")
    parser.add_argument("--module", action="append", help="only this one of the modules, such as `session`")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what stands in `finally` is done
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_sources(Path(folder))
        os.chdir(folder)
        began_at = time.monotonic()
        mutants = [mutant for mutant in all_mutants() if not mutant.is_wording]
        modules = [path for path in paths() if not arguments.module or Path(path).stem in arguments.module]
        sampled = [mutant for path in modules for mutant in drawn(mutants, path, arguments)]
        killed = run(sampled, num_workers=arguments.workers)
    equivalent = read_equivalent()
    print(f"seed {arguments.seed}, {time.monotonic() - began_at:.0f} s\n")
    print(table(modules, mutants, sampled, killed, equivalent))
    wrong = complaints(mutants, sampled, killed, equivalent)
    print("\n".join(wrong))
    return 1 if wrong or share_killed(sampled, killed, equivalent) < GOAL else 0


def copy_sources(target: Path) -> None:
    """All that git knows or would take."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


# --- which mutants there are ------------------------------------------------------------------------------------------


def paths() -> list[str]:
    """The files to mutate. mutmut reads its configuration from the current folder, which is the copy."""
    from mutmut.utils.file_utils import walk_mutatable_files  # noqa: PLC0415

    found = sorted(map(str, walk_mutatable_files()))
    patterns = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
    lost = [pattern for pattern in patterns if not any(Path(path).match(pattern) for path in found)]
    if lost:
        raise SystemExit(f"[tool.mutmut] only_mutate: no such file: {', '.join(lost)}")
    return found


def all_mutants() -> list[Mutant]:
    from mutmut.mutation.file_mutation import mutate_file_contents  # noqa: PLC0415
    from mutmut.utils.format_utils import get_mutant_name, orig_function_and_class_names_from_key  # noqa: PLC0415

    mutants = []
    for path in paths():
        mutated = mutate_file_contents(path, Path(path).read_text())
        lines = mutated.code.split("\n")
        for short_name in mutated.mutant_names:
            name = get_mutant_name(Path(path), short_name)
            function, class_name = orig_function_and_class_names_from_key(name)
            original = short_name.rpartition("__mutmut_")[0] + "__mutmut_orig"
            spans = [mutated.line_span_by_function_name[each] for each in (original, short_name)]
            bodies = ["\n".join(lines[span.start - 1 : span.end]) for span in spans]
            before, after = _difference(bodies[0].replace(original, function), bodies[1].replace(short_name, function))
            mutants.append(Mutant(path, name, f"{class_name}.{function}" if class_name else function, before, after))
    return mutants


def _difference(before: str, after: str) -> tuple[str, str]:
    lines = list(difflib.ndiff(before.split("\n"), after.split("\n")))
    gone, new = (textwrap.dedent("\n".join(line[2:] for line in lines if line.startswith(sign))) for sign in "-+")
    return gone, new


def _without_sentences(code: str) -> str:
    return _STRING.sub(lambda found: '""' if found[0].count(" ") >= 3 else found[0], code)


def drawn(mutants: Sequence[Mutant], path: str, arguments: argparse.Namespace) -> list[Mutant]:
    here = sorted(mutant for mutant in mutants if mutant.path == path)
    rng = random.Random(f"{arguments.seed} {Path(path).stem}")
    return rng.sample(here, min(arguments.per_module, len(here)))


# --- which are killed -------------------------------------------------------------------------------------------------


def run(sampled: Sequence[Mutant], *, num_workers: int) -> set[Mutant]:
    """Those that a test noticed. A mutant that no test calls survives."""
    command = [Path(sys.executable).with_name("mutmut"), "run", "--max-children", str(num_workers)]
    with (
        Path("mutmut.log").open("w+") as log,
        _group([*map(str, command), *(mutant.name for mutant in sampled)], log=log.fileno()) as process,
    ):
        if process.wait() != 0:
            log.seek(0)
            print("".join(line for line in log if line[0] not in _SPINNER))
            raise SystemExit("mutmut failed; are the tests green before anything is changed?")
    codes: dict[str, int | None] = {}
    for path in {mutant.path for mutant in sampled}:
        codes |= json.loads(Path(f"mutants/{path}.meta").read_text())["exit_code_by_key"]
    return {mutant for mutant in sampled if codes[mutant.name] in _KILLED}


@contextlib.contextmanager
def _group(command: Sequence[str], *, log: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone in the end, with all that it started."""
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- what that says ---------------------------------------------------------------------------------------------------


def read_equivalent() -> set[tuple[str, str, str, str]]:
    rows = tomllib.loads(EQUIVALENT.read_text())["mutant"]
    assert all(row["reason"] for row in rows)
    return {(row["module"], row["function"], row["before"].strip("\n"), row["after"].strip("\n")) for row in rows}


def share_killed(sampled: Sequence[Mutant], killed: set[Mutant], equivalent: set[tuple[str, str, str, str]]) -> float:
    killable = [mutant for mutant in sampled if mutant.key not in equivalent]
    return sum(mutant in killed for mutant in killable) / max(1, len(killable))


def table(
    modules: Sequence[str],
    mutants: Sequence[Mutant],
    sampled: Sequence[Mutant],
    killed: set[Mutant],
    equivalent: set[tuple[str, str, str, str]],
) -> str:
    """In Markdown. The first share is of all that were sampled, the second without the equivalent ones."""
    lines = [
        "| module | mutants | sampled | killed | equivalent | survived | killed of sampled | of those that can be |"
    ]
    lines.append("|---" * 8 + "|")
    for name, chosen in [*((path, {path}) for path in modules), ("all", set(modules))]:
        of = [mutant for mutant in sampled if mutant.path in chosen]
        num_killed = sum(mutant in killed for mutant in of)
        num_equivalent = sum(mutant.key in equivalent and mutant not in killed for mutant in of)
        numbers = (
            sum(mutant.path in chosen for mutant in mutants),
            len(of),
            num_killed,
            num_equivalent,
            len(of) - num_killed - num_equivalent,
            f"{num_killed / max(1, len(of)):.1%}",
            f"{share_killed(of, killed, equivalent):.1%}",
        )
        lines.append(f"| `{name}` | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines)


def complaints(
    mutants: Sequence[Mutant],
    sampled: Sequence[Mutant],
    killed: set[Mutant],
    equivalent: set[tuple[str, str, str, str]],
) -> list[str]:
    """What somebody should look at: survivors, and what `equivalent.toml` says wrongly."""
    survivors = [str(mutant) for mutant in sampled if mutant not in killed and mutant.key not in equivalent]
    wrong = [
        f"said to be equivalent, but killed: {mutant}"
        for mutant in sampled
        if mutant.key in equivalent & {m.key for m in killed}
    ]
    known = {mutant.key for mutant in mutants}
    lost = [f"said to be equivalent, but there is no such mutant: {key}" for key in sorted(equivalent - known)]
    return [*survivors, *wrong, *lost]


if __name__ == "__main__":
    raise SystemExit(main())
