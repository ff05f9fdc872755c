"""Profiles say what the shipped folder says of itself."""

import json

from engine.api import Quality
from engine.config import EMBEDDED_FOLDER, PROFILES


def test_the_embedded_profile_is_the_one_its_weights_were_evaluated_with() -> None:
    profile = PROFILES["embedded"]
    index = json.loads((EMBEDDED_FOLDER / "model_index.json").read_text())
    assert (index["width"], index["height"]) == (profile.width, profile.height)
    assert (index["num_frames"], index["fps"]) == (profile.num_frames, profile.frame_rate)
    for quality in Quality:
        setting = index["settings"][quality.value]
        assert setting["num_steps"] == profile.num_steps[quality]
        assert setting["guidance_scale"] == profile.guidance_scale
