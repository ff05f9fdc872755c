"""What one clip of the embedded model's world shows, as a value.

A `SceneSpec` is the single source of a clip's pixels (`world`), of its captions (`captions`) and of the labels that
the evaluation checks (`evaluate`). Pure Python: the lexicon and the tests use these tables without importing torch.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass

SCENES = (
    "beach",
    "sea",
    "mountains",
    "forest",
    "city",
    "volcano",
    "underwater",
    "space",
    "park",
    "desert",
    "countryside",
    "garden",
    "classroom",
    "room",
    "cafe",
    "studio",
    "aurora",
)
TIMES = ("day", "sunset", "night", "dawn")
WEATHERS = ("clear", "rain", "snow", "fog", "petals")
SUBJECTS = (
    "sailboat",
    "bird",
    "fish",
    "rocket",
    "car",
    "dog",
    "balloon",
    "dancer",
    "cat",
    "children",
    "ball",
    "dinosaur",
)
COLOURS = ("red", "blue", "yellow", "green", "purple", "white")
DIRECTIONS = ("left", "right")
# Subjects that look the same from both sides: no picture can show their direction.
SYMMETRIC_SUBJECTS = frozenset({"balloon"})
CAMERAS = ("still", "drift")
PALETTES = ("vivid", "pastel", "vintage")
NUM_LAYOUTS = 3

# Scenes whose light is always the same: deep space, a studio's lamps, the polar night.
TIMELESS_SCENES = frozenset({"space", "studio", "aurora"})

# Only pairs that a viewer would believe. Fewer combinations also leave a small model more samples of each.
SUBJECTS_OF_SCENE: dict[str, tuple[str, ...]] = {
    "beach": ("dancer", "dog", "sailboat", "bird", "ball", "children", "cat"),
    "sea": ("sailboat", "bird", "balloon"),
    "mountains": ("balloon", "bird", "dog", "car", "dinosaur"),
    "forest": ("dog", "dancer", "bird", "car", "dinosaur", "cat"),
    "city": ("car", "dancer", "balloon", "rocket", "cat", "dog"),
    "volcano": ("bird", "balloon", "car", "dinosaur", "rocket"),
    "underwater": ("fish",),
    "space": ("rocket", "balloon"),
    "park": ("children", "ball", "dog", "cat", "dancer", "bird"),
    "desert": ("car", "rocket", "balloon", "dinosaur", "bird"),
    "countryside": ("balloon", "car", "dog", "bird", "children"),
    "garden": ("dancer", "cat", "dog", "bird", "children"),
    "classroom": ("children", "cat", "ball", "dinosaur", "dancer"),
    "room": ("cat", "dog", "ball", "dancer"),
    "cafe": ("cat", "dancer", "dog"),
    "studio": ("dancer", "car", "cat", "ball", "dinosaur", "rocket"),
    "aurora": ("dog", "car", "balloon", "dancer"),
}
# Indoors the weather is what the window shows.
WEATHERS_OF_SCENE: dict[str, tuple[str, ...]] = {
    "beach": ("clear", "rain", "fog"),
    "sea": ("clear", "rain", "fog"),
    "mountains": ("clear", "snow", "fog"),
    "forest": ("clear", "rain", "snow", "fog"),
    "city": ("clear", "rain", "snow", "fog"),
    "volcano": ("clear",),
    "underwater": ("clear",),
    "space": ("clear",),
    "park": ("clear", "rain", "snow", "petals"),
    "desert": ("clear",),
    "countryside": ("clear", "rain", "snow", "fog", "petals"),
    "garden": ("clear", "rain", "petals"),
    "classroom": ("clear", "rain", "snow"),
    "room": ("clear", "rain", "snow"),
    "cafe": ("clear", "rain", "snow"),
    "studio": ("clear",),
    "aurora": ("clear", "snow"),
}

# Never rendered for training, so that the evaluation can tell composition from recall.
HELD_OUT_SCENE_TIMES: tuple[tuple[str, str], ...] = (
    ("beach", "dawn"),
    ("forest", "night"),
    ("volcano", "sunset"),
    ("countryside", "night"),
    ("room", "sunset"),
    ("desert", "dawn"),
)
HELD_OUT_SUBJECT_SCENES: tuple[tuple[str, str], ...] = (
    ("dog", "beach"),
    ("car", "mountains"),
    ("dancer", "forest"),
    ("balloon", "countryside"),
    ("cat", "city"),
    ("dinosaur", "desert"),
    ("ball", "park"),
    ("rocket", "studio"),
)
HELD_OUT_SUBJECT_COLOURS: tuple[tuple[str, str], ...] = (
    ("sailboat", "purple"),
    ("bird", "green"),
    ("fish", "red"),
    ("car", "yellow"),
    ("dog", "blue"),
    ("dancer", "white"),
    ("cat", "purple"),
    ("balloon", "green"),
    ("dinosaur", "red"),
    ("rocket", "blue"),
)


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """One clip. Illegal combinations raise: a spec that exists can be drawn and described.

    `time` is None in `TIMELESS_SCENES` only. `colour` and `direction` belong to the subject and are None without one.
    `layout` chooses one of `NUM_LAYOUTS` arrangements of the scene. Nothing visible is left to chance: the same spec
    gives the same clip, so a model that knows the whole spec has nothing to average over.
    """

    scene: str
    time: str | None
    weather: str = "clear"
    subject: str | None = None
    colour: str | None = None
    direction: str | None = None
    camera: str = "still"
    palette: str = "vivid"
    layout: int = 0

    def __post_init__(self) -> None:
        if self.scene not in SCENES:
            raise ValueError(f"scene must be one of {SCENES}, not {self.scene!r}")
        if (self.time is None) != (self.scene in TIMELESS_SCENES) or (self.time is not None and self.time not in TIMES):
            raise ValueError(
                f"time must be one of {TIMES} (None in {sorted(TIMELESS_SCENES)}), not {self.time!r} in {self.scene}"
            )
        if self.weather not in WEATHERS:
            raise ValueError(f"weather must be one of {WEATHERS}, not {self.weather!r}")
        if self.subject is None:
            if self.colour is not None or self.direction is not None:
                raise ValueError("colour and direction describe a subject, and there is none")
        else:
            if self.subject not in SUBJECTS:
                raise ValueError(f"subject must be one of {SUBJECTS}, not {self.subject!r}")
            if self.colour not in COLOURS:
                raise ValueError(f"colour must be one of {COLOURS}, not {self.colour!r}")
            if self.direction not in DIRECTIONS:
                raise ValueError(f"direction must be one of {DIRECTIONS}, not {self.direction!r}")
        if self.camera not in CAMERAS:
            raise ValueError(f"camera must be one of {CAMERAS}, not {self.camera!r}")
        if self.palette not in PALETTES:
            raise ValueError(f"palette must be one of {PALETTES}, not {self.palette!r}")
        if not 0 <= self.layout < NUM_LAYOUTS:
            raise ValueError(f"layout must be in 0..{NUM_LAYOUTS - 1}, not {self.layout}")

    @property
    def is_held_out(self) -> bool:
        return (
            (self.scene, self.time) in HELD_OUT_SCENE_TIMES
            or (self.subject, self.scene) in HELD_OUT_SUBJECT_SCENES
            or (self.subject, self.colour) in HELD_OUT_SUBJECT_COLOURS
        )


def specs_to_json(specs: Iterable[SceneSpec]) -> str:
    return json.dumps([asdict(spec) for spec in specs])


def specs_from_json(rows: str) -> list[SceneSpec]:
    return [SceneSpec(**row) for row in json.loads(rows)]


def draw_spec(rng: random.Random, *, subject_share: float = 0.75, with_held_out: bool = False) -> SceneSpec:
    """A random spec for training, without held-out pairs. The evaluation's judge must know them, so it draws all."""
    while True:
        scene = rng.choice(SCENES)
        spec = _draw_in_scene(rng, scene, subject_share)
        if with_held_out or not spec.is_held_out:
            return spec


def _draw_in_scene(rng: random.Random, scene: str, subject_share: float) -> SceneSpec:
    has_subject = rng.random() < subject_share
    return SceneSpec(
        scene,
        None if scene in TIMELESS_SCENES else rng.choice(TIMES),
        weather="clear" if rng.random() < 0.65 else rng.choice(WEATHERS_OF_SCENE[scene]),
        subject=rng.choice(SUBJECTS_OF_SCENE[scene]) if has_subject else None,
        colour=rng.choice(COLOURS) if has_subject else None,
        direction=rng.choice(DIRECTIONS) if has_subject else None,
        camera="still" if rng.random() < 0.85 else "drift",
        palette="vivid" if rng.random() < 0.8 else rng.choice(PALETTES[1:]),
        layout=rng.randrange(NUM_LAYOUTS),
    )
