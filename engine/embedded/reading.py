"""Reads what a prompt asks of one clip, and completes it to a whole clip. Pure Python without torch; any thread.

`read` gives each slot of a `SceneSpec` the first value that the text names, and reports words that the same clip cannot
show. `complete` chooses the slots that the prompt leaves open. Stage and training compose the model's tokens with the
same `completed_tokens`: the prompt's in its order, then the rest, so that the tokens always say all that a clip shows.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from engine.embedded.lexicon import (
    ALONE,
    COLUMNS,
    FACINGS,
    LAYOUTS,
    ROWS,
    TOKEN_IDS,
    UNK,
    UNK_ID,
    VOCABULARY,
    Word,
    hear,
)
from engine.embedded.places import subject_place
from engine.embedded.spec import (
    CAMERAS,
    COLOURS,
    DIRECTIONS,
    HELD_OUT_SCENE_TIMES,
    HELD_OUT_SUBJECT_SCENES,
    NUM_LAYOUTS,
    PALETTES,
    SCENES,
    SUBJECTS,
    SUBJECTS_OF_SCENE,
    TIMELESS_SCENES,
    TIMES,
    WEATHERS,
    WEATHERS_OF_SCENE,
    SceneSpec,
)

# The order in which completion tokens follow the prompt's.
_VALUES: dict[str, tuple[str, ...]] = {
    "scene": SCENES,
    "time": TIMES,
    "weather": WEATHERS,
    "subject": SUBJECTS,
    "colour": COLOURS,
    "direction": DIRECTIONS,
    "camera": CAMERAS,
    "palette": PALETTES,
}
_SLOT_OF: dict[str, str] = {value: slot for slot, values in _VALUES.items() for value in values}

# What a scene or subject shows anyway: "the northern lights at night" and "children with a ball" miss nothing.
_IMPLIED: dict[str, frozenset[str]] = {
    "aurora": frozenset({"night"}),
    "space": frozenset({"night"}),
    "children": frozenset({"ball"}),
}
_TIME_WEIGHTS = {"day": 0.4, "sunset": 0.2, "night": 0.2, "dawn": 0.2}
NATURAL_COLOURS: dict[str, str] = {
    "sailboat": "white",
    "bird": "blue",
    "fish": "yellow",
    "rocket": "red",
    "car": "red",
    "dog": "yellow",
    "balloon": "red",
    "dancer": "red",
    "cat": "white",
    "children": "blue",
    "ball": "red",
    "dinosaur": "green",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a prompt names. None is a slot that it leaves open; `token_ids` hold UNK at most once.

    `understood` and `not_understood` are the prompt's own words, in its language.
    """

    scene: str | None = None
    time: str | None = None
    weather: str | None = None
    subject: str | None = None
    colour: str | None = None
    direction: str | None = None
    camera: str | None = None
    palette: str | None = None
    understood: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()
    token_ids: tuple[int, ...] = ()

    @property
    def concepts(self) -> tuple[str, ...]:
        """What the understood words mean, in their order."""
        return tuple(VOCABULARY[token_id] for token_id in self.token_ids if token_id != UNK_ID)


def read(text: str) -> Reading:
    """The first possible value of each slot wins; never raises on any text."""
    words = _in_their_element(hear(text))
    named = _named_values(words)
    kept: dict[str, str] = {}  # tokens, and the words that said them first
    reported: list[str] = []
    for word in words:
        if word.concept is None:
            reported.append(word.surface)
            kept.setdefault(UNK, word.surface)
        elif named.get(_SLOT_OF[word.concept]) == word.concept:
            kept.setdefault(word.concept, word.surface)
        elif not _is_implied(word.concept, named):
            reported.append(word.surface)
    return Reading(
        scene=named.get("scene"),
        time=named.get("time"),
        weather=named.get("weather"),
        subject=named.get("subject"),
        colour=named.get("colour"),
        direction=named.get("direction"),
        camera=named.get("camera"),
        palette=named.get("palette"),
        understood=tuple(dict.fromkeys(surface for token, surface in kept.items() if token != UNK)),
        not_understood=tuple(dict.fromkeys(reported)),
        token_ids=tuple(TOKEN_IDS[token] for token in kept),
    )


def unconditional_tokens() -> tuple[int, ...]:
    """The tokens that guidance starts from: padding only."""
    return ()


def complete(reading: Reading, seed: int) -> tuple[SceneSpec, tuple[int, ...]]:
    """A whole legal clip and its tokens; the same reading and seed give the same ones.

    All slots are drawn before any is chosen, so a named slot changes only the values that it rules out.
    """
    rng = random.Random(seed)  # for pictures  # nosec B311
    scenes = rng.sample(SCENES, len(SCENES))
    # Weighted order without replacement (Efraimidis and Spirakis 2006).
    times = sorted(TIMES, key=lambda time: -math.log(1 - rng.random()) / _TIME_WEIGHTS[time])
    direction = rng.choice(DIRECTIONS)
    layout = rng.randrange(NUM_LAYOUTS)

    scene = reading.scene or _fitting_scene(scenes, reading)
    subject = reading.subject
    spec = SceneSpec(
        scene,
        _fitting_time(times, scene, reading.time),
        weather=reading.weather or "clear",
        subject=subject,
        colour=(reading.colour or NATURAL_COLOURS[subject]) if subject else None,
        direction=(reading.direction or direction) if subject else None,
        camera=reading.camera or "still",
        palette=reading.palette or "vivid",
        layout=layout,
    )
    return spec, completed_tokens(reading, spec)


def completed_tokens(reading: Reading, spec: SceneSpec) -> tuple[int, ...]:
    """The prompt's tokens in its order, then what it left open: scene, time, weather, subject or "alone", and so on.

    A direction becomes the token of the subject that looks there; the subject's place comes last. Raises ValueError if
    the clip does not show a value that the prompt names.
    """
    rest: list[str] = []
    for slot in _VALUES:
        asked, shown = getattr(reading, slot), getattr(spec, slot)
        if asked is not None and asked != shown:
            raise ValueError(f"the clip's {slot} must be {asked!r} as its prompt says, not {shown!r}")
        if asked is None and shown is not None:
            rest.append(shown)
        elif slot == "subject" and shown is None:
            rest.append(ALONE)
    tokens = (*reading.token_ids, *(TOKEN_IDS[token] for token in (*rest, LAYOUTS[spec.layout])))
    if spec.subject is None or spec.direction is None:
        return tokens
    column, row = subject_place(spec)
    plain, facing = TOKEN_IDS[spec.direction], TOKEN_IDS[FACINGS[spec.subject, spec.direction]]
    place = (TOKEN_IDS[COLUMNS[column]], TOKEN_IDS[ROWS[row]])
    return (*(facing if token == plain else token for token in tokens), *place)


def _in_their_element(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Fish in the sea are seen under water, not above the waves."""
    subject = next((word.concept for word in words if word.concept in SUBJECTS), None)
    if subject != "fish":
        return words
    return tuple(Word("underwater", word.surface) if word.concept == "sea" else word for word in words)


def _named_values(words: tuple[Word, ...]) -> dict[str, str]:
    """The values that one clip can show together, by slot. Scene and subject come first: the others depend on them."""
    concepts = [word.concept for word in words if word.concept is not None]
    named: dict[str, str] = {}
    for concept in concepts:
        if (slot := _SLOT_OF[concept]) in {"scene", "subject"}:
            named.setdefault(slot, concept)
    for concept, owner in zip(concepts, _owners(concepts), strict=True):
        slot = _SLOT_OF[concept]
        if slot not in named and _is_possible(concept, slot, owner, named):
            named[slot] = concept
    return named


def _owners(concepts: list[str]) -> list[str | None]:
    """The subject that a colour at each place would describe: the next one, or at the end the last one."""
    owners: list[str | None] = []
    owner = next((concept for concept in reversed(concepts) if concept in SUBJECTS), None)
    for concept in reversed(concepts):
        owner = concept if concept in SUBJECTS else owner
        owners.append(owner)
    return owners[::-1]


def _is_possible(concept: str, slot: str, owner: str | None, named: dict[str, str]) -> bool:
    scene, subject = named.get("scene"), named.get("subject")
    if slot == "colour":
        return subject is not None and (owner == subject or owner in _IMPLIED.get(subject, ()))
    if slot == "direction":
        return subject is not None
    if slot == "time":
        return scene not in TIMELESS_SCENES and _have_common_scene(concept, named.get("weather"), scene)
    if slot == "weather":
        return _have_common_scene(named.get("time"), concept, scene)
    return True


def _have_common_scene(time: str | None, weather: str | None, scene: str | None) -> bool:
    return any(_fits(place, time, weather) for place in ((scene,) if scene else SCENES))


def _fits(scene: str, time: str | None, weather: str | None) -> bool:
    has_time = time is None or scene not in TIMELESS_SCENES
    return has_time and (weather is None or weather in WEATHERS_OF_SCENE[scene])


def _is_implied(concept: str, named: dict[str, str]) -> bool:
    return any(concept in _IMPLIED.get(value, ()) for value in named.values())


def _fitting_scene(scenes: list[str], reading: Reading) -> str:
    """The first scene that can show the named values, if possible one where training showed the subject and time."""
    possible = [scene for scene in scenes if _fits(scene, reading.time, reading.weather)]
    if reading.subject is None:
        natural = possible
    else:
        natural = [scene for scene in possible if reading.subject in SUBJECTS_OF_SCENE[scene]]
    trained = [
        scene
        for scene in natural
        if (scene, reading.time) not in HELD_OUT_SCENE_TIMES and (reading.subject, scene) not in HELD_OUT_SUBJECT_SCENES
    ]
    return (trained or natural or possible)[0]


def _fitting_time(times: list[str], scene: str, named: str | None) -> str | None:
    if scene in TIMELESS_SCENES:
        return None
    return named or next(time for time in times if (scene, time) not in HELD_OUT_SCENE_TIMES)
