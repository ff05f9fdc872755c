"""Our engine makes the numbers of diffusers' own Wan pipelines, on small random folders in the published layouts.

Bitwise where the arithmetic is the same. One difference is intended: the 5B's pipeline gives each token of a
text-to-video clip its timestep, all equal. We give one, which multiplies other shapes and differs in the last bits.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler, WanImageToVideoPipeline, WanPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from wan_folders import SIZE, Builder, a14b, cached, fastwan, t2v_1_3b, ti2v_5b

from engine.api import Frames, Generate, ModelError, Quality
from engine.config import LoadSettings
from engine.loading.models import Model, load
from engine.parts.denoiser import Denoiser
from engine.parts.generation import Generation
from engine.parts.noise_schedule import NoiseSchedule
from engine.parts.pixels import to_rgb
from engine.parts.umt5 import cleaned

PROMPT = "the sea at  sunset &amp; 日落时的海边"
_models: dict[Path, Model] = {}


def model_of(builder: Builder) -> Model:
    """Loaded once: the models are read only."""
    folder = cached(builder)
    if folder not in _models:
        model = load(LoadSettings(model=str(folder), device="cpu", **SIZE))
        model.profile = replace(model.profile, num_steps={Quality.FAST: 5, Quality.FINE: 7})
        _models[folder] = model
    return _models[folder]


def few_step_model() -> Model:
    return load(LoadSettings(model=f"fastwan2.2-5b={cached(fastwan)}", device="cpu", **SIZE))


def begun(model: Model, name: str = "a", *, seed: int = 1, prompt: str = PROMPT, **options: object) -> Generation:
    generation = Generation(Generate(name, prompt, seed=seed, **options), queued_at=0.0)  # type: ignore[arg-type]
    model.begin(generation)
    return generation


def finish(model: Model, generation: Generation) -> torch.Tensor:
    while not generation.is_denoised:
        model.denoiser.step([generation])
    assert generation.latents is not None
    return generation.latents


def theirs(
    kind: type,
    builder: Builder,
    ours: Generation,
    *,
    num_steps: int = 5,
    guidance_scale: float = 5.0,
    expands_timesteps: bool | None = None,
    parts: dict[str, object] | None = None,
    **options: object,
) -> torch.Tensor:
    """The latents of diffusers' pipeline, from the noise of seed 1 and the embeddings of our generation."""
    pipeline = kind.from_pretrained(cached(builder), text_encoder=None, tokenizer=None, **(parts or {}))
    if expands_timesteps is not None:
        pipeline.register_to_config(expand_timesteps=expands_timesteps)
    pipeline.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        latents: torch.Tensor = pipeline(
            prompt_embeds=ours.prompt_embeds,
            negative_prompt_embeds=ours.negative_embeds,
            generator=torch.Generator().manual_seed(1),
            num_inference_steps=num_steps,
            guidance_scale=guidance_scale,
            output_type="latent",
            **SIZE,
            **options,
        ).frames
    return latents


def air_frame(seed: int = 5) -> Frames:
    """A frame as it is on air, in the model's size."""
    shape = (1, SIZE["height"] * 3 // 2, SIZE["width"])
    return Frames(np.random.default_rng(seed).integers(16, 236, shape, dtype=np.uint8))


# --- text to video ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_unipc_as_in_the_published_folder_is_bitwise_the_pipelines(guidance_scale: float) -> None:
    model = replace_profile(model_of(t2v_1_3b), guidance_scale=guidance_scale)
    generation = begun(model)
    expected = theirs(WanPipeline, t2v_1_3b, generation, guidance_scale=guidance_scale)
    assert torch.equal(finish(model, generation), expected)


def test_the_5b_is_bitwise_the_pipelines_but_for_its_expanded_timesteps() -> None:
    model = model_of(ti2v_5b)
    generation = begun(model)
    ours = finish(model, generation)
    assert torch.equal(ours, theirs(WanPipeline, ti2v_5b, generation, expands_timesteps=False))
    assert torch.allclose(ours, theirs(WanPipeline, ti2v_5b, generation), atol=1e-5)


class ExplicitSigmas(FlowMatchEulerDiscreteScheduler):
    """diffusers' Euler solver on the sigmas that we use; the pipeline can only ask for a number of steps."""

    def set_timesteps(self, num_inference_steps: int, device: object = None) -> None:
        super().set_timesteps(sigmas=torch.linspace(1, 1 / num_inference_steps, num_inference_steps).tolist())


def test_euler_is_bitwise_the_pipelines(tmp_path: Path) -> None:
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(tmp_path / "scheduler")
    model = replace(model_of(t2v_1_3b), noise_schedule=NoiseSchedule(tmp_path))
    generation = begun(model)
    expected = theirs(WanPipeline, t2v_1_3b, generation, parts={"scheduler": ExplicitSigmas(shift=3.0)})
    assert torch.equal(finish(model, generation), expected)


class ThreeSteps(FlowMatchLCMScheduler):
    """The few-step sampler at the published timesteps, its noise from a generator: the pipeline never gives it one."""

    def set_timesteps(self, num_inference_steps: int, device: object = None) -> None:
        super().set_timesteps(timesteps=[1000.0, 757.0, 522.0])

    def step(self, velocity: torch.Tensor, timestep: object, latents: torch.Tensor, **options: object) -> object:
        if self.step_index is None:
            self.random = torch.Generator().manual_seed(1)
            torch.randn(latents.shape, generator=self.random)  # what the noise at the start took
        return super().step(velocity, timestep, latents, generator=self.random, **options)


def test_the_few_step_model_is_bitwise_the_pipelines() -> None:
    model = few_step_model()
    generation = begun(model)
    assert [generation.solver.timestep_number(index) for index in range(3)] == [1000, 757, 522]  # type: ignore[union-attr]
    expected = theirs(
        WanPipeline,
        fastwan,
        generation,
        num_steps=3,
        guidance_scale=1.0,
        expands_timesteps=False,
        parts={"scheduler": ThreeSteps(shift=1.0)},
    )
    assert torch.equal(finish(model, generation), expected)


def test_two_experts_change_over_at_the_boundary_with_their_own_guidance_bitwise() -> None:
    model = model_of(a14b)
    generation = begun(model)
    experts = []
    while not generation.is_denoised:
        experts.append(generation.expert_index)
        model.denoiser.step([generation])
    assert experts == sorted(experts) and set(experts) == {0, 1}
    expected = theirs(WanPipeline, a14b, generation, guidance_scale=4.0, guidance_scale_2=3.0)
    assert generation.latents is not None and torch.equal(generation.latents, expected)


# --- from a frame -------------------------------------------------------------------------------------------------


def test_a_clip_from_the_frame_on_air_is_bitwise_the_image_to_video_pipelines() -> None:
    model, frame = model_of(ti2v_5b), air_frame()
    generation = begun(model, first_frame=frame)
    expected = theirs(WanImageToVideoPipeline, ti2v_5b, generation, image=to_rgb(frame))
    assert torch.equal(finish(model, generation), expected)


def test_every_preview_keeps_the_given_first_latent_frame() -> None:
    model = model_of(ti2v_5b)
    generation = begun(model, first_frame=air_frame())
    model.denoiser.step([generation])
    assert generation.x0 is not None and generation.condition is not None
    assert torch.equal(generation.x0[:, :, :1], generation.condition)


def test_a_first_frame_of_another_size_is_brought_to_the_rungs() -> None:
    model = model_of(ti2v_5b)
    frame = Frames(np.full((1, 96 * 3 // 2, 128), 120, np.uint8))
    generation = begun(model, first_frame=frame)
    assert generation.condition is not None and generation.latents is not None
    assert generation.condition.shape[3:] == generation.latents.shape[3:]


def test_a_model_that_cannot_start_from_a_frame_says_so() -> None:
    model = model_of(t2v_1_3b)
    assert not model.description.can_start_from_frame
    with pytest.raises(ModelError, match="cannot start from a frame"):
        begun(model, first_frame=air_frame())


# --- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", PROMPT, "the sea " * 400])
def test_text_of_the_real_tokens_alone_equals_the_full_pass(prompt: str) -> None:
    pipeline = WanPipeline.from_pretrained(cached(ti2v_5b), transformer=None, vae=None)
    with torch.inference_mode():
        expected, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=512)
    embeds = model_of(ti2v_5b).text_encoder.encode(prompt).embeds
    assert embeds.shape == expected.shape == (1, 512, expected.shape[2])
    assert torch.allclose(embeds, expected, atol=1e-5)


@pytest.mark.parametrize(
    "prompt", ["  a \n\t b ", "caf&eacute; &amp;lt;b&amp;gt;", "\u3000全角\u00a0空格 ", "a&nbsp;b"]
)
def test_prompts_are_cleaned_as_in_the_pipeline(prompt: str) -> None:
    assert cleaned(prompt) == prompt_clean(prompt)


# --- jointly ------------------------------------------------------------------------------------------------------


def test_generations_join_and_leave_a_running_batch_at_any_step() -> None:
    model = replace_rows(model_of(ti2v_5b), 4)
    plans = [("a", 1, Quality.FAST), ("b", 2, Quality.FINE), ("c", 3, Quality.FAST)]
    check_joint(model, lambda: [begun(model, name, seed=seed, quality=quality) for name, seed, quality in plans])


def test_clips_that_start_from_frames_share_steps_with_each_other() -> None:
    model = replace_rows(model_of(ti2v_5b), 4)
    check_joint(
        model,
        lambda: [begun(model, name, seed=seed, first_frame=air_frame(seed)) for name, seed in (("a", 1), ("b", 2))],
    )


def test_few_step_generations_keep_noise_of_their_own_in_a_batch() -> None:
    model = few_step_model()
    check_joint(model, lambda: [begun(model, name, seed=seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))])


def test_unlike_generations_never_share_a_step() -> None:
    model = replace_rows(model_of(ti2v_5b), 4)
    plain, framed = begun(model), begun(model, "b", first_frame=air_frame())
    assert plain.shape_key != framed.shape_key
    with pytest.raises(ValueError, match="cannot share a step"):
        model.denoiser.step([plain, framed])


def test_experts_never_share_a_step() -> None:
    model = model_of(a14b)
    early, late = begun(model), begun(model, "b")
    while late.expert_index == 0:
        model.denoiser.step([late])
    assert early.shape_key != late.shape_key


def check_joint(model: Model, make: object) -> None:
    """The second joins after a step of the first, and so on; each ends when its own steps are done."""
    together, alone = make(), make()  # type: ignore[operator]
    for num_running in range(1, len(together)):
        model.denoiser.step(together[:num_running])
    while running := [generation for generation in together if not generation.is_denoised]:
        model.denoiser.step(running)
    for generation, expected in zip(together, alone, strict=True):
        assert torch.allclose(generation.latents, finish(model, expected), atol=1e-5)


# --- to the end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("builder", [ti2v_5b, t2v_1_3b, a14b])
def test_a_clip_comes_out_in_the_size_asked_for(builder: Builder) -> None:
    model = model_of(builder)
    generation = begun(model)
    finish(model, generation)
    frames = torch.cat(list(model.decode(generation)))
    assert frames.shape == (SIZE["num_frames"], 3, SIZE["height"], SIZE["width"])
    assert (model.description.width, model.description.num_frames) == (SIZE["width"], SIZE["num_frames"])


def replace_profile(model: Model, **changes: object) -> Model:
    return replace(model, profile=replace(model.profile, **changes))  # type: ignore[arg-type]


def replace_rows(model: Model, rows: int) -> Model:
    return replace(model, denoiser=Denoiser(*model.denoiser.experts, rows_per_forward=rows))
