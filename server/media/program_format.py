"""Media formats: of one program's picture, and of all programs of a server."""

from __future__ import annotations

from dataclasses import dataclass

from server.media.video.encoder import SOFTWARE_H264


@dataclass(frozen=True, slots=True)
class ProgramFormat:
    """One program's video. `bitrate` is a ceiling in bits per second; `marker` paints the frame index into it."""

    width: int = 832
    height: int = 480
    frame_rate: int = 24
    bitrate: int = 2_000_000
    marker: bool = False

    def __post_init__(self) -> None:
        if self.width < 128 or self.height < 128 or self.width % 2 or self.height % 2:
            raise ValueError(f"expected even sides of at least 128 px, got {self.width}x{self.height}")
        if not 1 <= self.frame_rate <= 60 or self.bitrate < 50_000:
            raise ValueError(f"expected 1 to 60 frames/s and 50 kbit/s, got {self.frame_rate} and {self.bitrate}")


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """What all programs of a server share."""

    h264_encoder: str = SOFTWARE_H264  # by its name in FFmpeg
    uses_stock_sender: bool = False  # aiortc's, the plain twin of ours
