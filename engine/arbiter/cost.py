"""The measured cost of each piece of work: one row for each piece, size, decoder and batch. Pure; in both processes.

The engine process owns the measurements and corrects them with everything it runs. The supervisor keeps a copy for its
estimates (`wire.Costs`). A mean covers the last measurements without the extreme ones. Each row keeps its errors, so
that a prediction can be shown together with its error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from engine.api import CostEntry, Quality
from engine.config import Rung

# A mean covers this many measurements: some four clips of steps or decodes. The slowest and the quickest fifth are left
# out. So one clip that another program held up does not spoil the next estimates: without this, a clip that took three
# times as long doubled them. A machine that really slows down shows in the mean after two clips.
_NUM_RECENT = 24
_EXTREME_SHARE = 0.2
_NUM_ERRORS = 64


class Piece(StrEnum):
    """What the engine does between two decisions of the arbiter."""

    BEGIN = "begin"  # text, noise, first frame
    STEP = "step"  # one denoising step, of one generation or of several
    PREVIEW = "preview"
    DECODE = "decode"  # the frames of one latent frame


@dataclass(frozen=True, slots=True)
class CostRow:
    """One measured mean, as it crosses the wire. `place` is the first rung that has the same size (and decoder)."""

    piece: Piece
    place: int
    batch: int
    seconds: float
    error: float
    num_measured: int


@dataclass(slots=True)
class _Mean:
    seconds: float
    num_measured: int = 1
    errors: deque[float] = field(default_factory=lambda: deque(maxlen=_NUM_ERRORS))
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_NUM_RECENT))

    def __post_init__(self) -> None:
        self.recent.append(self.seconds)

    def measure(self, seconds: float) -> None:
        if seconds > 0:
            self.errors.append(abs(self.seconds - seconds) / seconds)
        self.recent.append(seconds)
        num_extreme = int(len(self.recent) * _EXTREME_SHARE)
        kept = sorted(self.recent)[num_extreme : len(self.recent) - num_extreme]
        self.seconds = sum(kept) / len(kept)
        self.num_measured += 1


class Cost:
    """Predicted seconds of a piece on a rung of `ladder`.

    Unmeasured costs are predicted from measured ones: other sizes in proportion to their pixels, a batch between two
    measured ones on the line between them, any other batch in proportion. So a batch is never predicted to gain before
    a larger one was measured to gain.
    """

    def __init__(self, ladder: Sequence[Rung], num_pieces: int) -> None:
        self.ladder = tuple(ladder)
        self.num_pieces = num_pieces  # of a decode, one for each latent frame
        sizes = [(rung.width, rung.height) for rung in self.ladder]
        decoded = [(rung.width, rung.height, rung.decoder) for rung in self.ladder]
        self._places = {
            Piece.BEGIN: [0 for _ in sizes],
            Piece.STEP: [sizes.index(size) for size in sizes],
            Piece.PREVIEW: [sizes.index(size) for size in sizes],
            Piece.DECODE: [decoded.index(shape) for shape in decoded],
        }
        self._means: dict[tuple[Piece, int, int], _Mean] = {}
        self._known: dict[tuple[Piece, int, int], float] = {}

    @property
    def is_measured(self) -> bool:
        return any(piece is Piece.STEP for piece, _, _ in self._means)

    def measure(self, piece: Piece, rung_index: int, seconds: float, *, batch: int = 1) -> None:
        key = (piece, self._places[piece][rung_index], batch)
        mean = self._means.get(key)
        if mean is None:
            self._means[key] = _Mean(seconds)
        else:
            mean.measure(seconds)
        self._known.clear()

    def seconds(self, piece: Piece, rung_index: int = 0, *, batch: int = 1) -> float:
        """Predicted time of one piece; 0 before anything like it was measured."""
        key = (piece, rung_index, batch)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._predict(piece, self._places[piece][rung_index], batch)
        return known

    def preview_s(self, rung_index: int) -> float:
        """Seconds from the start to the first preview."""
        return (
            self.seconds(Piece.BEGIN) + self.seconds(Piece.STEP, rung_index) + self.seconds(Piece.PREVIEW, rung_index)
        )

    def clip_s(self, rung_index: int, quality: Quality) -> float:
        """Seconds for a whole clip with its first preview, made alone."""
        num_steps = self.ladder[rung_index].num_steps[quality]
        rest_s = (num_steps - 1) * self.seconds(Piece.STEP, rung_index)
        return self.preview_s(rung_index) + rest_s + self.num_pieces * self.seconds(Piece.DECODE, rung_index)

    def rows(self) -> tuple[CostRow, ...]:
        return tuple(
            CostRow(piece, place, batch, mean.seconds, percentile(mean.errors, 90), mean.num_measured)
            for (piece, place, batch), mean in self._means.items()
        )

    def take(self, rows: Iterable[CostRow]) -> None:
        """Replaces the measurements by those of the engine process."""
        self._means = {
            (row.piece, row.place, row.batch): _Mean(row.seconds, row.num_measured, deque([row.error])) for row in rows
        }
        self._known.clear()

    def entries(self) -> tuple[CostEntry, ...]:
        """For people: ``step 224x128 batch 1``."""
        return tuple(
            CostEntry(self._name(row), row.seconds, row.error, row.num_measured)
            for row in sorted(self.rows(), key=_key)
        )

    def _predict(self, piece: Piece, place: int, batch: int) -> float:
        mean = self._means.get((piece, place, batch))
        if mean is not None:
            return mean.seconds
        alike = sorted(
            (size, row.seconds) for (kind, at, size), row in self._means.items() if (kind, at) == (piece, place)
        )
        if alike:
            return _between(alike, batch)
        # Never measured at this size: scale by pixels from the first measured size, if possible of the same decoder.
        rung = self.ladder[place]
        measured = sorted({at for kind, at, _ in self._means if kind is piece})
        same = [at for at in measured if self.ladder[at].decoder == rung.decoder]
        if not measured:
            return 0.0
        other = (same or measured)[0]
        pixels = self.ladder[other].width * self.ladder[other].height
        return self._predict(piece, other, batch) * (rung.width * rung.height) / pixels

    def _name(self, row: CostRow) -> str:
        rung = self.ladder[row.place]
        size = "" if row.piece is Piece.BEGIN else f" {rung.width}x{rung.height}"
        decoder = f" {rung.decoder}" if row.piece is Piece.DECODE else ""
        batch = f" batch {row.batch}" if row.piece is Piece.STEP else ""
        return f"{row.piece}{size}{decoder}{batch}"


def _between(measured: Sequence[tuple[int, float]], batch: int) -> float:
    """Seconds of an unmeasured batch: on the line between its measured neighbours, otherwise in proportion."""
    below = [row for row in measured if row[0] < batch]
    above = [row for row in measured if row[0] > batch]
    if not below or not above:
        size, seconds = (below or above)[-1 if below else 0]
        return seconds * batch / size
    (low, low_s), (high, high_s) = below[-1], above[0]
    return low_s + (high_s - low_s) * (batch - low) / (high - low)


def percentile(values: Iterable[float], percent: float) -> float:
    """One of `values`; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def _key(row: CostRow) -> tuple[int, int, int]:
    return list(Piece).index(row.piece), row.place, row.batch
