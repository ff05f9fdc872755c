"""Training: every stage runs, resumes and hands over, at a size that takes seconds; stills keep their place in time."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.embedded.lexicon import MAX_TOKENS, VOCABULARY_SIZE
from engine.embedded.modules import AutoencoderConfig, Decoder, TextEncoder, TextEncoderConfig
from engine.embedded.spec import SceneSpec
from training import curves, train
from training.data import clip_files
from training.data.dataset import (
    CLIPS,
    NUM_LATENT_FRAMES,
    Examples,
    group_indices,
    load_examples,
    load_stills,
    make_examples,
)
from training.evaluation.sampling import EmbeddedModel
from training.export import export_folder
from training.few_steps import Teacher, schedule
from training.optim import Muon, orthogonalise
from training.train_autoencoder import RenderPool, filled_from, load_autoencoder, load_folder, new_autoencoder
from training.train_generator import Batches, FrameRope, Generator, guided_target
from training.training import RECIPES, Clock, Recipe, save_checkpoint
from training.world.world import render


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return replace(
        RECIPES["full-rehearsal"],
        folder=tmp_path_factory.mktemp("run"),
        autoencoder=AutoencoderConfig(channels=(8, 16, 16), num_blocks=(1, 1, 1)),
        decoder=AutoencoderConfig(channels=(8, 16, 16), num_blocks=(1, 1, 1), output_kernel=1),
        autoencoder_batch=2,
        render_pool=6,
        num_clips=3,
        num_heads=1,
        ffn_dim=64,
        images_batch=4,
        clips_batch=2,
        few_steps_batch=2,
    )


def test_all_stages_run_resume_and_end_in_a_folder_that_loads(recipe: Recipe, tmp_path: Path) -> None:
    budget = {"minutes": 10.0, "slice_minutes": 0.0, "resume": True}  # slices of one step
    for stage in train.STAGES:
        train.run_stage(recipe, stage, start_from=None, folder=tmp_path, **budget)
        path = recipe.folder / f"{stage}.pt"
        if path.exists() and stage != "examples":  # the slice ended before the budget: the next run continues
            before = torch.load(path, weights_only=True)
            train.run_stage(recipe, stage, start_from=None, folder=tmp_path, **budget)
            after = torch.load(path, weights_only=True)
            assert (before["step"], after["step"]) == (1, 2)
            assert after["spent_s"] > before["spent_s"]
    stills, clips = load_stills(recipe), load_examples(recipe.folder / CLIPS)
    assert clips.latents.shape == (8, 24, NUM_LATENT_FRAMES, 16, 26)  # a file of clips that were rendered ahead
    assert stills.latents.shape == (8 * NUM_LATENT_FRAMES, 24, 1, 16, 26)
    assert stills.frames is not None and stills.frames[9] == 2 and stills.specs[9] == clips.specs[1]
    assert torch.equal(stills.latents[9, :, 0], clips.latents[1, :, 2])
    model = EmbeddedModel.from_pretrained(tmp_path)
    assert model.settings["fast"].num_steps == 4
    assert json.loads((tmp_path / "preview.json").read_text())["matrix"]
    assert (recipe.folder / "clips.csv").read_text().startswith("step,")


def test_a_run_starts_from_a_folder_with_fewer_words(recipe: Recipe, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train.run_stage(recipe, "export", start_from=None, folder=first)
    fewer = TextEncoder(TextEncoderConfig(vocab_size=40, text_dim=recipe.text_dim, max_tokens=MAX_TOKENS))
    fewer.save_pretrained(first / "text_encoder")
    # Of another shape: a run without an autoencoder of its own keeps the folder's.
    other = AutoencoderConfig(channels=(8, 8, 16), num_blocks=(1, 1, 1))
    later = replace(recipe, folder=tmp_path / "run", num_stills=4, num_clips=1, renders_ahead=False, decoder=other)
    later.folder.mkdir()
    for stage in ("examples", "images", "export"):
        train.run_stage(later, stage, start_from=first, folder=second, minutes=10.0, slice_minutes=0.0, resume=False)
    before, after = (Decoder.from_pretrained(folder / "decoder").state_dict() for folder in (first, second))
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    tokens = TextEncoder.from_pretrained(second / "text_encoder").tokens.weight
    assert len(tokens) == VOCABULARY_SIZE
    torch.testing.assert_close(tokens[:40], fewer.tokens.weight, atol=0.05, rtol=0)


def test_a_run_that_trained_its_own_autoencoder_uses_it_wherever_it_started(recipe: Recipe, tmp_path: Path) -> None:
    run = replace(recipe, folder=tmp_path)
    theirs, own = new_autoencoder(run), new_autoencoder(run)
    theirs.encoder.save_pretrained(tmp_path / "theirs" / "encoder")
    theirs.decoder.save_pretrained(tmp_path / "theirs" / "decoder")
    save_checkpoint(tmp_path / "autoencoder.pt", {"average": own.state_dict()})
    loaded = load_autoencoder(run, tmp_path / "theirs").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in own.state_dict().items())


def test_a_shallower_transformer_begins_with_blocks_of_a_deeper_one(recipe: Recipe, tmp_path: Path) -> None:
    deep = Generator(replace(recipe, num_layers=6))
    deep.transformer.save_pretrained(tmp_path / "transformer")
    deep.text_encoder.save_pretrained(tmp_path / "text_encoder")
    shallow = Generator(replace(recipe, num_layers=4))
    shallow.load_folder(tmp_path)
    for block, origin in zip(shallow.transformer.blocks, (0, 2, 3, 5), strict=True):
        expected = deep.transformer.blocks[origin].state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in block.state_dict().items())
    assert torch.equal(shallow.transformer.proj_out.weight, deep.transformer.proj_out.weight)


def test_clips_rendered_ahead_are_the_same_in_any_number_of_runs(tmp_path: Path) -> None:
    def sit() -> None:
        clip_files.render_ahead(tmp_path, num_clips=16, seed=3, num_workers=2, on_progress=lambda _: None)

    sit()
    first = clip_files.path_of(tmp_path, 0).read_bytes()
    clip_files.path_of(tmp_path, 0).unlink()
    assert list(clip_files.finished(tmp_path)) == []  # in order: the second one waits for the first
    sit()
    assert clip_files.path_of(tmp_path, 0).read_bytes() == first
    read = list(clip_files.read_all(clip_files.finished(tmp_path), 1))
    assert [clips.shape[:2] for clips, _ in read] == [(8, 24), (8, 24)]
    clips, specs = read[1]
    assert torch.equal(clips[5], clip_files.to_uint8(render(specs[5], range(24))))


@pytest.mark.parametrize("good_files", [0, 1])
def test_a_clip_file_that_cannot_be_read_ends_the_training(tmp_path: Path, good_files: int) -> None:
    spec = SceneSpec("beach", "day")
    if good_files:
        clip = clip_files.to_uint8(render(spec, range(24)))[None]
        clip_files.write(clip_files.path_of(tmp_path, 0), clip, [spec])
    clip_files.path_of(tmp_path, good_files).write_bytes(b"half a file")
    with (
        pytest.raises((ValueError, RuntimeError)),
        filled_from(tmp_path, RenderPool(3, 1, "cpu", num_frames=24)) as filler,
    ):
        filler.join(60)


def test_examples_without_clips_name_the_stage_that_makes_them(recipe: Recipe, tmp_path: Path) -> None:
    encoder = new_autoencoder(recipe).encoder
    with pytest.raises(FileNotFoundError, match="the stage `renders` makes them"):
        make_examples(replace(recipe, folder=tmp_path), encoder)


def test_the_pool_takes_clips_while_it_is_used(tmp_path: Path) -> None:
    spec = SceneSpec("beach", "day", subject="dog", colour="red", direction="left")
    clip = clip_files.to_uint8(render(spec, range(24)))[None]
    pool = RenderPool(2, 1, "cpu", num_frames=24)
    clip_files.write(clip_files.path_of(tmp_path, 0), clip, [spec])
    with filled_from(tmp_path, pool) as filler:
        assert len(pool) == 1
        clip_files.write(clip_files.path_of(tmp_path, 1), clip, [spec])
        filler.join(60)  # it ends when the pool is full
        assert len(pool) == 2
    groups, before, has_previous, weights = pool.crops(60, height=256, width=416)
    by_frame = {frame.sum().item(): index for index, frame in enumerate(clip[0].float() / 255)}
    for group, earlier, has_one in zip(groups, before, has_previous, strict=True):
        at, was = ([by_frame[frame.sum().item()] for frame in frames] for frames in (group, earlier))
        if not has_one:
            assert at == [at[0]] * 4
        else:  # the clip is a ring; what is before the second latent frame is one frame four times
            assert at == [(at[0] + step) % 24 for step in range(4)]
            assert was in ([(at[0] - 4 + step) % 24 for step in range(4)], [(at[0] - 1) % 24] * 4)
    assert weights.mean((1, 2, 3, 4)).allclose(torch.ones(60), atol=1e-3)


def test_moving_places_of_a_clip_weigh_more() -> None:
    latents = torch.zeros(1, 24, NUM_LATENT_FRAMES, 16, 26)
    latents[0, :, ::2, 4, 7] = 1.0
    examples = Examples(latents.half(), [SceneSpec("countryside", "day", layout=1)])
    for motion_weight in (0.0, 2.0):
        batches = Batches(examples, 0, "cpu", subject_weight=1.0, motion_weight=motion_weight)
        weight = batches.draw(2)[2]
        assert weight.mean((1, 2, 3, 4)).allclose(torch.ones(2))
        assert bool((weight[:, :, :, 4, 7] > 10 * weight[:, :, :, 0, 0]).all()) is bool(motion_weight)


def test_a_still_keeps_its_position_in_its_clip() -> None:
    rope = Generator(RECIPES["full-rehearsal"]).transformer.rope
    of_clip = rope(torch.zeros(2, 24, 7, 4, 6))
    wrapped = FrameRope(rope)
    wrapped.frames = torch.tensor([0, 5])
    for whole, alone in zip(of_clip, wrapped(torch.zeros(2, 24, 1, 4, 6)), strict=True):
        by_frame = whole.view(7, 6, -1)
        torch.testing.assert_close(alone[:, :, 0], torch.stack([by_frame[0], by_frame[5]]))
    wrapped.frames = None
    assert torch.equal(wrapped(torch.zeros(2, 24, 7, 4, 6))[0], of_clip[0])


def test_latent_frames_are_one_frame_and_then_fours() -> None:
    assert group_indices((0,)) == [0, 0, 0, 0]
    assert group_indices((2,)) == [5, 6, 7, 8]
    assert group_indices(range(3)) == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_the_pool_replaces_its_oldest_pictures() -> None:
    pool = RenderPool(3, 1, "cpu")
    pool.add(3)
    groups, before, has_previous, weights = pool.crops(8)
    assert groups.shape == before.shape == (8, 4, 3, 128, 208)
    assert has_previous.shape == (8,)
    assert weights.shape == (8, 1, 1, 128, 208)
    pool.add(4)
    assert len(pool) == 3


def test_a_clock_ends_at_its_slice_and_resumes_at_the_spent_time() -> None:
    clock = Clock(1000.0, slice_s=0.0)
    assert clock.is_over and clock.progress < 0.01
    clock.resume_at(1000.0)
    assert clock.progress == 1.0


def test_the_full_recipe_fits_the_package_in_small_files(tmp_path: Path) -> None:
    recipe = RECIPES["full"]
    generator, autoencoder = Generator(recipe), new_autoencoder(recipe)
    assert 18e6 < sum(weight.numel() for weight in generator.transformer.parameters()) < 25e6
    preview: dict[str, list[float]] = {"matrix": [], "bias": []}
    export_folder(
        tmp_path,
        transformer=generator.transformer,
        text_encoder=generator.text_encoder,
        autoencoder=autoencoder,
        preview=preview,
        settings={"fast": train.FAST, "fine": train.FINE},
    )
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert max(sizes) <= 16 * 2**20
    assert sum(sizes) <= 48 * 2**20
    loaded = EmbeddedModel.from_pretrained(tmp_path)
    expected = generator.transformer.proj_out.weight.detach().half().float()
    assert torch.equal(loaded.transformer.proj_out.weight, expected)


def test_a_decoder_of_another_shape_starts_fresh_beside_its_encoder(recipe: Recipe, tmp_path: Path) -> None:
    before = new_autoencoder(recipe)
    before.encoder.save_pretrained(tmp_path / "encoder")
    before.decoder.save_pretrained(tmp_path / "decoder")
    other = AutoencoderConfig(channels=(8, 8, 16), num_blocks=(1, 1, 1), output_kernel=1)
    after = new_autoencoder(replace(recipe, decoder=other))
    load_folder(after, tmp_path)
    for name, value in after.encoder.state_dict().items():
        torch.testing.assert_close(value, before.encoder.state_dict()[name], atol=1e-3, rtol=1e-3)  # fp16 in the file
    after.decoder.save_pretrained(tmp_path / "decoder")
    assert Decoder.from_pretrained(tmp_path / "decoder").layers[-2].weight.shape == (192, 8, 1, 1)


@pytest.mark.parametrize("is_given", [False, True])
def test_a_teacher_walks_from_noise_and_keeps_the_picture_that_it_was_given(recipe: Recipe, is_given: bool) -> None:
    teacher = Teacher(Generator(recipe), 1.0, recipe)
    latents = torch.randn(2, 24, 3, 4, 6)
    walked = teacher.walk(
        latents, schedule(2)[:, None].expand(-1, 2), torch.zeros(2, MAX_TOKENS, dtype=torch.int64), is_given=is_given
    )
    kept = (walked == latents).flatten(3).all(-1).all(1)
    assert kept.tolist() == [[is_given, False, False]] * 2


def test_few_steps_walk_the_solver_s_schedule() -> None:
    torch.testing.assert_close(schedule(4), torch.tensor([1.0, 0.9, 0.75, 0.5, 0.0]))


def test_muon_steps_are_orthogonal_in_both_precisions() -> None:
    matrices = torch.randn(20, 32, 48, generator=torch.Generator().manual_seed(1))
    for dtype in (torch.float32, torch.bfloat16):
        singular = torch.linalg.svdvals(orthogonalise(matrices, dtype))
        assert singular.min() > 0.5 and singular.max() < 1.4
    layer = torch.nn.Linear(32, 32)
    optimiser = Muon(layer.named_parameters(), lr=0.1, adamw_lr=0.1)
    before = layer.weight.detach().clone()
    layer(torch.randn(4, 32)).square().mean().backward()
    optimiser.step(1.0)
    assert not torch.equal(layer.weight, before)


def test_curves_are_drawn_for_the_existing_stages(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("step,seconds,samples,loss\n0,10,0,2.0\n9,60,432,0.5\n")
    drawn = curves.draw(tmp_path)
    assert "stills" in drawn and "autoencoder" not in drawn
    assert drawn.count("<polyline") == 1 and "1 minutes" in drawn


def test_a_model_that_meets_its_guided_target_answers_as_guidance_would() -> None:
    data, unconditional = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    conditional = unconditional + 1.25 * (data - unconditional)
    assert torch.allclose(guided_target(data, conditional, unconditional, 1.25), conditional, atol=1e-6)


def test_guidance_of_one_teaches_the_data() -> None:
    data = torch.randn(2, 3, 4)
    assert torch.equal(guided_target(data, torch.randn(2, 3, 4), torch.randn(2, 3, 4), 1.0), data)
