"""What a generation costs, measured: times per quality, and estimates made from them. Pure; server process."""

from __future__ import annotations

from engine.api import Estimate, Quality

# The weight of the newest measurement: after five, the old ones weigh less than a tenth.
_NEWEST = 0.4


class Cost:
    """Moving means of seconds from the start of a generation to its first preview and to its clip."""

    def __init__(self) -> None:
        self._preview_s: dict[Quality, float] = {}
        self._picture_s: dict[Quality, float] = {}

    def measure_preview(self, quality: Quality, seconds: float) -> None:
        _blend(self._preview_s, quality, seconds)

    def measure_picture(self, quality: Quality, seconds: float) -> None:
        _blend(self._picture_s, quality, seconds)

    def picture_s(self, quality: Quality) -> float | None:
        return self._picture_s.get(quality)

    def estimate(self, quality: Quality, ahead_s: float) -> Estimate | None:
        """With `ahead_s` of other work before it; None until this quality was measured once."""
        picture_s = self._picture_s.get(quality)
        if picture_s is None:
            return None
        preview_s = self._preview_s.get(quality, picture_s)
        return Estimate(preview_s=ahead_s + preview_s, picture_s=ahead_s + picture_s)


def _blend(means: dict[Quality, float], quality: Quality, seconds: float) -> None:
    old = means.get(quality, seconds)
    means[quality] = old + _NEWEST * (seconds - old)
