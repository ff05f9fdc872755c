"""The place of a clip's subject, in design units (224 x 128). Pure Python, for the text side and for `training.world`.

Subjects are at borders of the model's patches (16 units wide) and latent rows (8 units high). There a subject covers
the same few patches in every scene. At any other place it would have other latents, which a small model must learn one
by one. The column and the row are tokens of the model (`lexicon`), so what it learns of a subject holds everywhere.
"""

from __future__ import annotations

from engine.embedded.spec import SceneSpec

# The middle of the clip's left-most column, and the distances of columns and rows.
_LEFT, _COLUMN, _ROW = 8.0, 16.0, 8.0
NUM_COLUMNS, NUM_ROWS = 14, 16

# For each layout, clear of its trees, sun and planets: x, and the line of the ground.
STAGES: dict[str, tuple[tuple[float, float], ...]] = {
    "beach": ((112, 124), (112, 124), (112, 124)),
    "sea": ((150, 104), (92, 104), (104, 104)),
    "mountains": ((104, 121), (124, 121), (112, 121)),
    "forest": ((124, 121), (100, 121), (112, 121)),
    "city": ((124, 120), (100, 120), (112, 120)),
    "volcano": ((44, 123), (172, 123), (52, 123)),
    "underwater": ((112, 112), (100, 112), (122, 112)),
    "space": ((144, 112), (76, 112), (88, 112)),
    "park": ((116, 117), (118, 119), (112, 117)),
    "desert": ((114, 118), (86, 118), (112, 118)),
    "countryside": ((100, 118), (124, 118), (112, 118)),
    "garden": ((102, 118), (110, 118), (112, 118)),
    "aurora": ((100, 118), (124, 118), (112, 118)),
    "classroom": ((154, 118), (70, 118), (184, 118)),
    "room": ((152, 118), (84, 118), (182, 118)),
    "cafe": ((148, 118), (84, 118), (183, 118)),
    "studio": ((112, 117), (112, 117), (114, 117)),
}
_SKIES: dict[str, tuple[tuple[float, float], ...]] = {
    **{scene: tuple((x, 42.0) for x, _ in places) for scene, places in STAGES.items()},
    "park": ((112, 44), (112, 44), (104, 44)),
    "desert": ((112, 42), (92, 42), (90, 44)),
    "countryside": ((86, 42), (106, 42), (112, 42)),
    "garden": ((112, 42), (110, 42), (112, 42)),
    "aurora": ((112, 42), (112, 42), (112, 42)),
}
# The heights of subjects that neither stand on the ground nor fly in the sky.
_HEIGHTS: dict[tuple[str, str], float] = {
    ("sea", "sailboat"): 78.0,
    ("beach", "sailboat"): 62.0,
    ("underwater", "fish"): 62.0,
    ("space", "rocket"): 74.0,
    ("space", "balloon"): 66.0,
    ("city", "rocket"): 48.0,
}
_ROCKET_HEIGHT = 62.0
# From the middle of a subject that stands on the ground down to its lowest point.
_FEET: dict[str, float] = {
    "car": 22.0,
    "dog": 26.5,
    "dancer": 37.0,
    "cat": 29.0,
    "children": 30.0,
    "ball": 22.0,
    "dinosaur": 30.5,
}


def subject_place(spec: SceneSpec) -> tuple[int, int]:
    """Column and row of the spec's subject. Raises ValueError if there is none."""
    if spec.subject is None:
        raise ValueError("this spec has no subject")
    x, ground = STAGES[spec.scene][spec.layout]
    height = _HEIGHTS.get((spec.scene, spec.subject))
    if spec.subject in _FEET:
        y = ground - _FEET[spec.subject]
    elif height is not None:
        y = height
    elif spec.subject == "rocket":
        y = _ROCKET_HEIGHT
    else:
        x, y = _SKIES[spec.scene][spec.layout]
    return round((x - _LEFT) / _COLUMN), round(y / _ROW)


def subject_position(spec: SceneSpec) -> tuple[float, float]:
    """The middle of the spec's subject in design units. Raises ValueError if there is none."""
    column, row = subject_place(spec)
    return _LEFT + column * _COLUMN, row * _ROW
