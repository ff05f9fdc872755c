"""`make mutants`: changes the code in one place at a time and counts how often a test notices.

Each change makes a mutant; a test that fails kills it. mutmut makes the mutants and runs, for each, the tests that call
its function. This script draws a sample by a seed, works in a copy of the sources, and lists the survivors.
`[tool.mutmut]` in pyproject.toml names the modules and the tests; `equivalent.toml` names the mutants that no test can
kill, with the reason.

mutmut changes functions and methods. It leaves properties, other decorated functions and code outside of functions as
they are.
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
# mutmut's exit codes: a test failed, pytest broke; the time was up (mutmut's signal, and the kernel's after it).
_KILLED = {1, 3, 24, -24, 152, 36, -9}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"  # mutmut's sign that it is busy
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
Key = tuple[str, str, str, str]


@dataclass(frozen=True, order=True)
class Mutant:
    """`before` and `after` are the lines that differ, so that a mutant is recognised if the lines around it move."""

    path: str
    name: str  # mutmut's
    function: str
    before: str
    after: str

    @property
    def key(self) -> Key:
        return Path(self.path).stem, self.function, self.before, self.after

    @property
    def is_wording(self) -> bool:
        """Only a sentence for people differs: it may be improved without a test. Clients read codes."""
        return _without_sentences(self.before) == _without_sentences(self.after)

    def __str__(self) -> str:
        lines = [f"{self.path} {self.function}"]
        lines += [f"    - {line}" for line in self.before.split("\n")]
        lines += [f"    + {line}" for line in self.after.split("\n")]
        return "\n".join(lines)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a sample: of all `mutants`, some were `sampled`, of which some were `killed`."""

    mutants: Sequence[Mutant]
    sampled: Sequence[Mutant]
    killed: frozenset[Mutant]
    equivalent: frozenset[Key]

    def of(self, path: str) -> Outcome:
        mutants, sampled = ([each for each in many if each.path == path] for many in (self.mutants, self.sampled))
        return Outcome(mutants, sampled, self.killed.intersection(sampled), self.equivalent)

    @property
    def survivors(self) -> list[Mutant]:
        return [each for each in self.sampled if each not in self.killed and each.key not in self.equivalent]

    @property
    def num_equivalent(self) -> int:
        return len(self.sampled) - len(self.killed) - len(self.survivors)

    @property
    def share_of_sampled(self) -> float:
        return len(self.killed) / max(1, len(self.sampled))

    @property
    def share_of_killable(self) -> float:
        return len(self.killed) / max(1, len(self.sampled) - self.num_equivalent)

    def row(self, name: str) -> str:
        counts = len(self.mutants), len(self.sampled), len(self.killed), self.num_equivalent, len(self.survivors)
        shares = f"{self.share_of_sampled:.1%}", f"{self.share_of_killable:.1%}"
        return f"| {name} | {' | '.join(map(str, counts))} | {' | '.join(shares)} |"

    def mistakes(self) -> Iterator[str]:
        """The wrong entries of `equivalent.toml`."""
        for mutant in self.killed:
            if mutant.key in self.equivalent:
                yield f"said to be equivalent, but a test killed it: {mutant}"
        for key in sorted(self.equivalent - {mutant.key for mutant in self.mutants}):
            yield f"said to be equivalent, but there is no such mutant: {key}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same mutants")
    parser.add_argument("--per-module", type=int, default=120, help="mutants drawn from each module")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the copy and the processes go, as on Ctrl-C
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_sources(Path(folder))
        os.chdir(folder)  # from where mutmut reads its configuration
        mutants = [mutant for mutant in all_mutants() if not mutant.is_wording]
        sampled = [each for path in paths() for each in drawn(mutants, path, arguments.seed, arguments.per_module)]
        print(f"{len(sampled)} of {len(mutants)} mutants, drawn by seed {arguments.seed} ...", flush=True)
        outcome = Outcome(mutants, sampled, run(sampled, num_workers=arguments.workers), read_equivalent())
        rows = [outcome.of(path).row(f"`{path}`") for path in paths()]
        os.chdir(ROOT)
    print(f"{time.monotonic() - began_at:.0f} s. The last column leaves out what no test can kill.\n")
    print("| module | mutants | sampled | killed | equivalent | survived | killed, % | of those that can be, % |")
    print("\n".join(["|---" * 8 + "|", *rows, outcome.row("all")]))
    mistakes = list(outcome.mistakes())
    print("\n".join(["", *map(str, outcome.survivors), *mistakes]))
    return 1 if mistakes or outcome.share_of_killable < GOAL else 0


def copy_sources(target: Path) -> None:
    """Copies all files that git tracks or would add."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


# --- which mutants there are ------------------------------------------------------------------------------------------


def paths() -> list[str]:
    """The files to mutate. Raises `SystemExit` if a file of the configuration is missing."""
    from mutmut.utils.file_utils import walk_mutatable_files  # noqa: PLC0415

    found = sorted(map(str, walk_mutatable_files()))
    patterns = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
    lost = [pattern for pattern in patterns if not any(Path(path).match(pattern) for path in found)]
    if lost:
        raise SystemExit(f"pyproject.toml, [tool.mutmut] only_mutate: there is no file {', '.join(lost)}")
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


def drawn(mutants: Sequence[Mutant], path: str, seed: int, num_drawn: int) -> list[Mutant]:
    here = sorted(mutant for mutant in mutants if mutant.path == path)
    return random.Random(f"{seed} {Path(path).stem}").sample(here, min(num_drawn, len(here)))


def read_equivalent() -> frozenset[Key]:
    rows = tomllib.loads(EQUIVALENT.read_text())["mutant"]
    for row in rows:
        if not row["reason"]:
            raise SystemExit(f"{EQUIVALENT.name}: there is no reason for {row}")
    return frozenset(
        (row["module"], row["function"], row["before"].strip("\n"), row["after"].strip("\n")) for row in rows
    )


# --- which are killed -------------------------------------------------------------------------------------------------


def run(sampled: Sequence[Mutant], *, num_workers: int) -> frozenset[Mutant]:
    """The mutants that a test noticed. A mutant that no test calls survives."""
    mutmut = Path(sys.executable).with_name("mutmut")
    command = [str(mutmut), "run", "--max-children", str(num_workers), *(mutant.name for mutant in sampled)]
    with Path("mutmut.log").open("w+") as log:
        with _group(command, log=log.fileno()) as process:
            exit_code = process.wait()
        if exit_code != 0:
            log.seek(0)
            print("".join(line for line in log if line[0] not in _SPINNER))
            raise SystemExit("mutmut failed. Are the tests green before anything is changed?")
    codes: dict[str, int | None] = {}
    for path in {mutant.path for mutant in sampled}:
        codes |= json.loads(Path(f"mutants/{path}.meta").read_text())["exit_code_by_key"]
    return frozenset(mutant for mutant in sampled if codes[mutant.name] in _KILLED)


@contextlib.contextmanager
def _group(command: Sequence[str], *, log: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end, with all processes that it started."""
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    raise SystemExit(main())
