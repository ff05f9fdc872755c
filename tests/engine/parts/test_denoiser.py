"""Our step loop makes the numbers of diffusers' own pipeline, alone and jointly (small random transformer)."""

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

from engine.api import Generate
from engine.config import PROFILES
from engine.parts.denoiser import Denoiser
from engine.parts.generation import Generation
from engine.parts.noise_schedule import NoiseSchedule

SHAPE = (1, 8, 3, 4, 6)
NUM_STEPS = 5


@pytest.fixture(scope="module")
def transformer() -> WanTransformer3DModel:
    torch.manual_seed(0)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=8,
        out_channels=8,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    ).eval()


@pytest.fixture
def schedule(tmp_path: Path) -> NoiseSchedule:
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(tmp_path / "scheduler")
    return NoiseSchedule(tmp_path)


def started(name: str, seed: int, schedule: NoiseSchedule, *, guidance_scale: float, num_steps: int) -> Generation:
    random = torch.Generator().manual_seed(seed)
    generation = Generation(Generate(name, "a prompt"), queued_at=0.0)
    generation.latents = torch.randn(SHAPE, generator=random)
    generation.prompt_embeds = torch.randn(1, 6, 16, generator=random)
    generation.negative_embeds = torch.randn(1, 6, 16, generator=random) if guidance_scale != 1 else None
    generation.guidance_scale = guidance_scale
    generation.solver = schedule.solver(num_steps, torch.device("cpu"))
    return generation


class ExplicitSigmas(FlowMatchEulerDiscreteScheduler):
    """diffusers' solver on the sigmas that we use; the pipeline can only ask for a number of steps."""

    def set_timesteps(self, num_inference_steps: int, device: object = None) -> None:
        super().set_timesteps(sigmas=torch.linspace(1, 1 / num_inference_steps, num_inference_steps).tolist())


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_equals_the_diffusers_pipeline_bitwise(
    transformer: WanTransformer3DModel, schedule: NoiseSchedule, guidance_scale: float
) -> None:
    generation = started("a", 1, schedule, guidance_scale=guidance_scale, num_steps=NUM_STEPS)
    assert generation.latents is not None and generation.prompt_embeds is not None
    pipeline = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        transformer=transformer,
        scheduler=ExplicitSigmas(shift=3.0),
    )
    pipeline.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        expected = pipeline(
            prompt_embeds=generation.prompt_embeds,
            negative_prompt_embeds=generation.negative_embeds,
            latents=generation.latents.clone(),
            height=SHAPE[3] * 8,
            width=SHAPE[4] * 8,
            num_frames=(SHAPE[2] - 1) * 4 + 1,
            num_inference_steps=NUM_STEPS,
            guidance_scale=guidance_scale,
            output_type="latent",
        ).frames
    denoiser = Denoiser(transformer, rows_per_forward=1)
    while not generation.is_denoised:
        denoiser.step([generation])
    assert torch.equal(generation.latents, expected)


def test_joining_and_leaving_changes_nothing(transformer: WanTransformer3DModel, schedule: NoiseSchedule) -> None:
    plans = [("a", 1, 3.0, 6), ("b", 2, 1.0, 3), ("c", 3, 2.0, 4)]

    def make() -> list[Generation]:
        return [started(name, seed, schedule, guidance_scale=g, num_steps=n) for name, seed, g, n in plans]

    denoiser = Denoiser(transformer, rows_per_forward=4)
    together, alone = make(), make()
    for steps_before, generation in enumerate(together):
        for other in together[:steps_before]:
            if not other.is_denoised:
                denoiser.step([other])
        assert generation.step_index == 0
    while running := [generation for generation in together if not generation.is_denoised]:
        denoiser.step(running)
    for generation, expected in zip(together, alone, strict=True):
        while not expected.is_denoised:
            denoiser.step([expected])
        assert generation.latents is not None and expected.latents is not None
        assert torch.allclose(generation.latents, expected.latents, atol=1e-5)


def test_x0_after_the_last_step_is_the_clip(transformer: WanTransformer3DModel, schedule: NoiseSchedule) -> None:
    generation = started("a", 1, schedule, guidance_scale=1.0, num_steps=3)
    denoiser = Denoiser(transformer, rows_per_forward=1)
    while not generation.is_denoised:
        denoiser.step([generation])
    assert generation.x0 is not None and generation.latents is not None
    assert torch.allclose(generation.x0, generation.latents, atol=1e-5)


def test_sigmas_fall_from_one_and_are_shifted_once(schedule: NoiseSchedule) -> None:
    solver = schedule.solver(4, torch.device("cpu"))
    sigmas = [solver.sigma(index) for index in range(5)]
    shifted = [3 * sigma / (1 + 2 * sigma) for sigma in (1.0, 0.75, 0.5, 0.25, 0.0)]
    assert sigmas == pytest.approx(shifted, abs=1e-6)
    assert float(solver.timestep(1)) == pytest.approx(1000 * shifted[1], abs=1e-3)


def test_previews_are_made_without_guidance(transformer: WanTransformer3DModel, schedule: NoiseSchedule) -> None:
    # A guided x0 at high sigma lies far outside of what the decoder knows: the first preview was glare.
    guided = started("a", 1, schedule, guidance_scale=7.0, num_steps=3)
    plain = started("a", 1, schedule, guidance_scale=1.0, num_steps=3)
    denoiser = Denoiser(transformer, rows_per_forward=1)
    denoiser.step([guided])
    denoiser.step([plain])
    assert guided.x0 is not None and plain.x0 is not None
    assert torch.equal(guided.x0, plain.x0)


class FrameByFrame(torch.nn.Module):
    """A transformer that sees each latent frame alone, and remembers what it saw."""

    dtype = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, hidden_states: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        self.seen.append(hidden_states)
        return (hidden_states.sin(),)


def test_a_clip_that_each_step_rotates_is_rotated_back_exactly(schedule: NoiseSchedule) -> None:
    clips, seen = [], []
    for loop_shift in (0, 1):
        generation = started("a", 1, schedule, guidance_scale=3.0, num_steps=NUM_STEPS)
        generation.loop_shift = loop_shift
        transformer = FrameByFrame()
        denoiser = Denoiser(transformer, rows_per_forward=1)
        while not generation.is_denoised:
            denoiser.step([generation])
        clips.append(generation.latents)
        seen.append(transformer.seen[::2])  # the conditional rows
    assert clips[0] is not None and clips[1] is not None and torch.equal(clips[0], clips[1])
    for step_index, (plain, turned) in enumerate(zip(*seen, strict=True)):
        assert torch.equal(turned, plain.roll(-step_index, dims=2))


def test_no_clip_is_rotated_unless_its_profile_says_so(
    transformer: WanTransformer3DModel, schedule: NoiseSchedule
) -> None:
    clips = []
    for loop_shift in (0, 1):
        generation = started("a", 1, schedule, guidance_scale=1.0, num_steps=3)
        assert generation.loop_shift == 0
        generation.loop_shift = loop_shift
        denoiser = Denoiser(transformer, rows_per_forward=1)
        while not generation.is_denoised:
            denoiser.step([generation])
        clips.append(generation.latents)
    assert clips[0] is not None and clips[1] is not None and not torch.allclose(clips[0], clips[1])
    assert all(profile.loop_shift == 0 for profile in PROFILES.values())
