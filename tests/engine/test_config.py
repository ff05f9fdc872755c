"""Profiles agree with the shipped folder, and their ladders are consistent."""

import itertools
import json

import pytest

from engine.api import Quality
from engine.config import EMBEDDED_FOLDER, PROFILES, ModelProfile, default_model


def test_the_embedded_profile_is_the_one_its_weights_were_evaluated_with() -> None:
    profile = PROFILES["embedded"]
    index = json.loads((EMBEDDED_FOLDER / "model_index.json").read_text())
    assert (index["width"], index["height"]) == (profile.width, profile.height)
    assert (index["num_frames"], index["fps"]) == (profile.num_frames, profile.frame_rate)
    for quality in Quality:
        setting = index["settings"][quality.value]
        assert setting["num_steps"] == profile.num_steps[quality]
        assert setting["guidance_scale"] == profile.guidance_scale


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_lower_rungs_only_give_up_quality_and_name_it(profile: ModelProfile) -> None:
    for above, below in itertools.pairwise(profile.ladder):
        assert below.degraded and set(above.degraded) <= set(below.degraded)
        assert all(below.num_steps[quality] <= above.num_steps[quality] for quality in Quality)
        assert below.width * below.height <= above.width * above.height
        assert ("smaller_size" in below.degraded) == (below.width < profile.width)
        assert ("tiny_decoder" in below.degraded) == (below.decoder == "tiny")
        assert ("fewer_steps" in below.degraded) == (below.num_steps != profile.num_steps)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_rung_is_of_a_size_that_the_vaes_can_make(profile: ModelProfile) -> None:
    multiple = 32 if profile.name != "embedded" else 16
    assert all(rung.width % multiple == 0 and rung.height % multiple == 0 for rung in profile.ladder)
    assert profile.num_frames % 4 == 1


def test_the_few_step_model_never_makes_other_steps_than_it_was_distilled_at() -> None:
    profile = PROFILES["fastwan2.2-5b"]
    assert profile.distilled_timesteps == (1000.0, 757.0, 522.0)
    assert profile.guidance_scale == 1.0
    assert {rung.num_steps[quality] for rung in profile.ladder for quality in Quality} == {3}


def test_without_a_gpu_the_default_needs_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.config._has_cuda_device", lambda: False)
    assert default_model() == "embedded"
    monkeypatch.setattr("engine.config._has_cuda_device", lambda: True)
    assert PROFILES[default_model()].name == "fastwan2.2-5b"


def test_a_missing_decoder_changes_nothing_else_of_a_rung() -> None:
    profile = PROFILES["wan2.2-ti2v-5b"].with_decoders({"full"})
    assert [rung.degraded for rung in profile.ladder] == [(), ("fewer_steps",), ("fewer_steps", "smaller_size")]
