import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import transformers
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.errors import InputError
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    BertConfig,
    BertModel,
    Data2VecAudioConfig,
    HubertConfig,
    UniSpeechConfig,
    UniSpeechSatConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)

WAV2VEC2_SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 8,
}
DATA2VEC = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


def whisper_config(**changes):
    sizes = {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    decoder = {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "vocab_size": 20}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    limits = {"max_source_positions": 100, "max_target_positions": 8}
    unsuppressed = {"suppress_tokens": None, "begin_suppress_tokens": None}
    return WhisperConfig(**{**sizes, **decoder, **tokens, **limits, **unsuppressed, **changes})


CONFIGS = {
    "wav2vec2": lambda **changes: Wav2Vec2Config(**WAV2VEC2_SIZE, **changes),
    "wav2vec2-large": lambda **changes: Wav2Vec2Config(**WAV2VEC2_SIZE, **LARGE, **changes),
    "hubert": lambda **changes: HubertConfig(**WAV2VEC2_SIZE, **changes),
    "hubert-large": lambda **changes: HubertConfig(**WAV2VEC2_SIZE, **LARGE, **changes),
    "wavlm": lambda **changes: WavLMConfig(**WAV2VEC2_SIZE, **changes),
    "wavlm-large": lambda **changes: WavLMConfig(**WAV2VEC2_SIZE, **LARGE, **changes),
    "data2vec-audio": lambda **changes: Data2VecAudioConfig(**WAV2VEC2_SIZE | DATA2VEC, **changes),
    "unispeech": lambda **changes: UniSpeechConfig(**WAV2VEC2_SIZE, **changes),
    "unispeech-large": lambda **changes: UniSpeechConfig(**WAV2VEC2_SIZE, **LARGE, **changes),
    "unispeech-sat": lambda **changes: UniSpeechSatConfig(**WAV2VEC2_SIZE, **changes),
    "unispeech-sat-large": lambda **changes: UniSpeechSatConfig(**WAV2VEC2_SIZE, **LARGE, **changes),
    "whisper": whisper_config,
}
FAMILIES = [variant for variant in CONFIGS if not variant.endswith("-large")]
every_variant = pytest.mark.parametrize("variant", CONFIGS)
every_family = pytest.mark.parametrize("variant", FAMILIES)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def clips():
    """Three clips of 1 s with different loudness and offset, the last one silent in its second half."""
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((3, 16_000)) * [[0.01], [0.1], [0.5]] + [[0.0], [0.05], [-0.1]]
    audio[2, 8_000:] = 0
    return torch.from_numpy(audio.astype(np.float32))


def write_model(folder, variant, preprocessor=True, **changes):
    """Save a model of transformers alone whose every parameter is random."""
    config = CONFIGS[variant](**changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModel.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    if preprocessor:
        feature_extractor(config).save_pretrained(folder)
    return model


def feature_extractor(config):
    if config.model_type == "whisper":
        return WhisperFeatureExtractor(feature_size=80, chunk_length=config.max_source_positions // 50)
    return Wav2Vec2FeatureExtractor(do_normalize=True)


def reference_states(model, audio):
    """Hidden states by transformers alone, clip by clip, the last one with the final norm."""
    extractor, states = feature_extractor(model.config), []
    runner = model.encoder if model.config.model_type == "whisper" else model
    for clip in audio.numpy():
        features = extractor(clip, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            output = runner(features[extractor.model_input_names[0]], output_hidden_states=True)
        states.append(torch.cat([*output.hidden_states[:-1], output.last_hidden_state]))
    return torch.stack(states, dim=1)


def randomise_adapters(encoder, only=""):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name and only in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def run(encoder, audio):
    return encoder(audio)


@every_variant
def test_hidden_states_are_those_of_transformers(variant, tmp_path, clips):
    model = write_model(tmp_path, variant)
    encoder = SpeechEncoder.from_pretrained(tmp_path)
    expected = reference_states(model, clips)
    n_frames = 50 if variant == "whisper" else 49
    found = run(encoder, clips)
    assert found.shape == (4, 3, n_frames, 16) and (encoder.n_layers, encoder.dim) == (3, 16)
    assert encoder.family == variant.removesuffix("-large") and encoder.frame_seconds == 0.02
    torch.testing.assert_close(found, expected[:, :, :n_frames], rtol=1e-4, atol=2e-5)


@every_variant
@pytest.mark.parametrize("n_clips", [1, 5])
def test_every_layer_is_within_1e_5_of_transformers(variant, n_clips):
    encoder = SpeechEncoder.from_config(CONFIGS[variant](), seed=n_clips)
    audio = 0.1 * torch.randn(n_clips, 16_000, generator=torch.Generator().manual_seed(0))
    found = run(encoder, audio)
    expected = reference_states(encoder.model, audio)[:, :, : found.shape[2]]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@every_variant
def test_result_does_not_depend_on_the_batch(variant, clips):
    encoder = SpeechEncoder.from_config(CONFIGS[variant]())
    together = run(encoder, clips)
    alone = torch.cat([run(encoder, clip[None]) for clip in clips], dim=1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(run(encoder, clips.flip(0)).flip(1), together, rtol=0, atol=1e-5)


@every_variant
def test_silence_is_finite(variant):
    assert run(SpeechEncoder.from_config(CONFIGS[variant]()), torch.zeros(1, 16_000)).isfinite().all()


@every_variant
def test_train_turns_on_no_dropout_layerdrop_or_masking(variant, tmp_path, clips):
    if variant == "whisper":
        changes = {"dropout": 0.5, "attention_dropout": 0.5, "activation_dropout": 0.5, "encoder_layerdrop": 0.5}
        changes |= {"apply_spec_augment": True, "mask_time_prob": 0.5}
    else:
        names = ["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop"]
        changes = dict.fromkeys([*names, "mask_time_prob", "mask_feature_prob"], 0.5)
    model = write_model(tmp_path, variant, **changes)
    encoder = SpeechEncoder.from_pretrained(tmp_path)
    torch.nn.Sequential(encoder, torch.nn.Linear(16, 2)).train()
    found = encoder(clips).detach()
    torch.testing.assert_close(found, reference_states(model, clips)[:, :, : found.shape[2]], rtol=1e-4, atol=2e-5)


@every_variant
def test_the_front_end_is_frozen_and_the_whole_trunk_learns(variant, clips):
    encoder = SpeechEncoder.from_config(CONFIGS[variant]())
    frozen = ("decoder.", "encoder.conv", "encoder.embed_positions", "feature_extractor.", "masked_spec_embed")
    expected = {name for name, _ in encoder.model.named_parameters() if not name.startswith(frozen)}
    trainable = {name for name, p in encoder.model.named_parameters() if p.requires_grad}
    assert trainable == expected and len(encoder.trainable_parameters()) == len(expected)
    front = encoder.front_end(clips.requires_grad_())
    assert not front.requires_grad
    encoder.trunk(front)[-1].square().mean().backward()
    reached = {name for name, p in encoder.model.named_parameters() if p.grad is not None}
    assert reached == expected


@every_variant
@pytest.mark.parametrize("adapted", [False, True])
def test_trunk_returns_the_layers_and_frames_asked_for(variant, adapted, clips):
    encoder = SpeechEncoder.from_config(CONFIGS[variant]())
    if adapted:
        randomise_adapters(encoder.lora(rank=4))
    asked = ({"n_frames": 7}, {"frames": torch.tensor([48, 3])}, {"frames": torch.tensor([48])})
    with torch.no_grad():
        front = encoder.front_end(clips)
        whole = encoder.trunk(front)
        for frames, layers in product(asked, (None, [-1, 0], [2], [1, 2], [0])):
            states = whole[:, :, frames.get("frames", slice(7))]
            expected = states if layers is None else states[layers]
            torch.testing.assert_close(encoder.trunk(front, layers=layers, **frames), expected, atol=2e-6, rtol=1e-5)


def test_adapters_of_transformers_in_large_models_take_part_in_single_frames(clips):
    encoder = SpeechEncoder.from_config(CONFIGS["wav2vec2-large"](adapter_attn_dim=4))
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "adapter_layer" in name:
                parameter.normal_()
        front = encoder.front_end(clips)
        expected = encoder.trunk(front)[..., [48], :]
        torch.testing.assert_close(encoder.trunk(front, frames=torch.tensor([48])), expected, atol=2e-6, rtol=1e-5)


@every_variant
def test_the_gradient_through_some_frames_is_that_through_all(variant, clips):
    encoder, found = SpeechEncoder.from_config(CONFIGS[variant]()), []
    front = encoder.front_end(clips)
    for whole in (True, False):
        encoder.zero_grad()
        hidden = encoder.trunk(front)[-1, :, :7] if whole else encoder.trunk(front, 7, [-1])[0]
        hidden.square().mean().backward()
        found.append([p.grad.clone() for p in encoder.trainable_parameters()])
    for whole, some in zip(*found, strict=True):
        torch.testing.assert_close(some, whole, atol=1e-6, rtol=1e-4)


@every_variant
def test_nothing_is_computed_past_the_layers_and_frames_asked_for(variant, clips, monkeypatch):
    encoder, seen = SpeechEncoder.from_config(CONFIGS[variant]()), []
    for number, block in enumerate(encoder.model.encoder.layers, 1):
        block.final_layer_norm.register_forward_hook(lambda _, given, __, n=number: seen.append((n, given[0].shape[1])))
    with torch.no_grad():
        front = encoder.front_end(clips)
        encoder.trunk(front, layers=[2, 1], frames=torch.tensor([5]))
    assert seen == [(1, front.shape[1]), (2, front.shape[1] if "wavlm" in variant else 1)]


def test_a_layer_that_is_not_there_is_an_error(clips):
    encoder = SpeechEncoder.from_config(CONFIGS["hubert"]())
    with pytest.raises(IndexError):
        encoder.trunk(encoder.front_end(clips), layers=[4])


@pytest.mark.parametrize("n_samples", [400, 719, 720, 16_000, 24_321])
def test_frames_of_wav2vec2_are_those_of_its_convolutions(n_samples):
    encoder = SpeechEncoder.from_config(CONFIGS["wav2vec2"]())
    assert encoder.front_end(torch.randn(1, n_samples)).shape[1] == encoder.n_frames(n_samples)


@pytest.mark.parametrize("n_samples", [1, 320, 321, 16_000, 31_680, 31_681, 32_000])
def test_frames_of_whisper_are_those_that_start_within_the_clip(n_samples):
    encoder = SpeechEncoder.from_config(CONFIGS["whisper"]())
    assert encoder.n_frames(n_samples) == sum(start < n_samples for start in range(0, 32_000, 320))


@pytest.mark.parametrize("n_samples", [160_000, 163_777, 480_000])
def test_whisper_log_mel_at_full_length(n_samples, tmp_path):
    model = write_model(tmp_path, "whisper", max_source_positions=1500, encoder_layers=1)
    audio = 0.1 * torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))
    audio[1, n_samples // 2 :] *= 1e-4
    features = feature_extractor(model.config)(list(audio.numpy()), sampling_rate=16_000, return_tensors="pt")
    padded = SpeechEncoder.from_pretrained(tmp_path)
    torch.testing.assert_close(padded._log_mel(audio, 1500), features["input_features"], rtol=0, atol=1e-4)
    columns = -(-n_samples // 320) * 2
    short = padded._log_mel(audio, columns // 2)[..., :columns]
    torch.testing.assert_close(short, features["input_features"][..., :columns], rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_samples", [500, 16_000, 16_123, 31_300, 31_700, 32_000])
def test_whisper_without_padding_sees_only_the_covered_frames(n_samples, tmp_path):
    model = write_model(tmp_path, "whisper")
    padded = SpeechEncoder.from_pretrained(tmp_path)
    unpadded = SpeechEncoder.from_pretrained(tmp_path, pad_to_30s=False)
    audio = 0.1 * torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))
    n_frames = padded.n_frames(n_samples)
    assert padded.front_end(audio).shape[1] == 100
    front = unpadded.front_end(audio)
    torch.testing.assert_close(front, padded.front_end(audio)[:, :n_frames], rtol=0, atol=1e-5)
    hidden = front
    with torch.no_grad():
        for layer in model.encoder.layers:
            hidden = layer(hidden, None)
        hidden = model.encoder.layer_norm(hidden)
    found = run(unpadded, audio)
    torch.testing.assert_close(found[-1], hidden, rtol=1e-4, atol=1e-5)
    assert n_frames == 100 or (found[-1] - run(padded, audio)[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("normalise", [True, False, None])
def test_clips_are_normalised_where_the_preprocessor_says_so(normalise, tmp_path, clips):
    write_model(tmp_path, "wavlm-large", preprocessor=False)
    if normalise is not None:
        Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(tmp_path)
    encoder = SpeechEncoder.from_pretrained(tmp_path)
    difference = (run(encoder, clips) - run(encoder, 3 * clips + 0.2)).abs().max()
    assert difference > 1e-2 if normalise is False else difference < 1e-3
    encoder.save_pretrained(tmp_path / "again")
    assert torch.equal(run(SpeechEncoder.from_pretrained(tmp_path / "again"), clips), run(encoder, clips))


@every_variant
def test_saved_folder_loads_in_transformers_and_here(variant, tmp_path, clips):
    encoder = SpeechEncoder.from_config(CONFIGS[variant](), seed=5)
    encoder.save_pretrained(tmp_path / "saved")
    plain, report = AutoModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    expected = run(encoder, clips)
    torch.testing.assert_close(
        reference_states(plain, clips)[:, :, : expected.shape[2]], expected, rtol=1e-4, atol=2e-5
    )
    again = SpeechEncoder.from_pretrained(tmp_path / "saved")
    assert torch.equal(run(again, clips), expected)
    assert again.weights_from == f"local folder {tmp_path / 'saved'}" and again.name == str(tmp_path / "saved")


def test_saved_folder_remembers_the_padding(tmp_path):
    SpeechEncoder.from_config(CONFIGS["whisper"](), pad_to_30s=False).save_pretrained(tmp_path / "saved")
    assert not SpeechEncoder.from_pretrained(tmp_path / "saved").pad_to_30s
    assert SpeechEncoder.from_pretrained(tmp_path / "saved", pad_to_30s=True).pad_to_30s


def test_a_failed_save_leaves_the_earlier_folder(tmp_path, monkeypatch):
    encoder = SpeechEncoder.from_config(CONFIGS["hubert"]())
    encoder.save_pretrained(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(Wav2Vec2FeatureExtractor, "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        SpeechEncoder.from_config(CONFIGS["hubert"](), seed=1).save_pretrained(tmp_path / "saved")
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("variant", ["wav2vec2", "hubert-large", "wavlm"])
def test_both_weight_norm_names_load(variant, tmp_path, clips):
    model = write_model(tmp_path, variant)
    weights = load_file(tmp_path / "model.safetensors")
    new, old = "parametrizations.weight.original", ("weight_g", "weight_v")
    prefix = "encoder.pos_conv_embed.conv."
    if f"{prefix}{new}0" in weights:
        pairs = [(f"{prefix}{new}{i}", prefix + old[i]) for i in (0, 1)]
    else:
        pairs = [(prefix + old[i], f"{prefix}{new}{i}") for i in (0, 1)]
    for here, there in pairs:
        weights[there] = weights.pop(here)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    encoder = SpeechEncoder.from_pretrained(tmp_path)
    found = run(encoder, clips)
    torch.testing.assert_close(found, reference_states(model, clips), rtol=1e-4, atol=2e-5)
    encoder.save_pretrained(tmp_path / "again")
    assert torch.equal(run(SpeechEncoder.from_pretrained(tmp_path / "again"), clips), found)


@every_family
def test_every_lora_projection_takes_effect_and_learns(variant, clips):
    encoder = SpeechEncoder.from_config(CONFIGS[variant]())
    before = run(encoder, clips)
    assert encoder.lora(rank=4) is encoder
    assert sum(p.numel() for p in encoder.trainable_parameters()) == 3 * 4 * 4 * (16 + 16)
    torch.testing.assert_close(run(encoder, clips), before, rtol=0, atol=1e-5)
    encoder(clips)[-1].square().mean().backward()
    assert all(p.grad is not None for p in encoder.trainable_parameters())
    for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
        adapted = SpeechEncoder.from_config(CONFIGS[variant]()).lora(rank=4)
        randomise_adapters(adapted, projection)
        assert (run(adapted, clips)[-1] - before[-1]).abs().max() > 1e-4


@every_family
def test_saved_lora_is_merged_into_plain_weights(variant, tmp_path, clips):
    encoder = SpeechEncoder.from_config(CONFIGS[variant]()).lora(rank=4, alpha=6)
    randomise_adapters(encoder)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    expected = run(encoder, clips)
    encoder.save_pretrained(tmp_path / "saved")
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    saved = AutoModel.from_pretrained(tmp_path / "saved").state_dict()
    attention = "self_attn" if variant == "whisper" else "attention"
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        place = f"encoder.layers.1.{attention}.{name}"
        base, low, high = (
            before[f"model.{place}.{part}.weight"] for part in ("base_layer", "lora_A.default", "lora_B.default")
        )
        torch.testing.assert_close(saved[f"{place}.weight"], base + 6 / 4 * high @ low)
    again = SpeechEncoder.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(run(again, clips), expected, rtol=1e-4, atol=2e-5)


@every_family
def test_lora_dropout_follows_train_and_nothing_else_does(variant, clips):
    config = CONFIGS[variant](attention_dropout=0.5, activation_dropout=0.5)
    encoder = SpeechEncoder.from_config(config).lora(dropout=0.5)
    randomise_adapters(encoder)
    assert torch.equal(run(encoder, clips), run(encoder, clips))
    encoder.train()
    assert not torch.equal(run(encoder, clips), run(encoder, clips))
    encoder.eval()
    assert torch.equal(run(encoder, clips), run(encoder, clips))
    without = SpeechEncoder.from_config(config).lora(dropout=0.0)
    randomise_adapters(without)
    assert torch.equal(run(without.train(), clips), run(without, clips))


def test_random_numbers_come_from_the_seed_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, same, other = (SpeechEncoder.from_config(CONFIGS["wavlm"](), seed=seed).lora(seed=9) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(first.parameters(), same.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_progress_bars_are_back_after_loading(tmp_path):
    write_model(tmp_path, "hubert")
    level = transformers.utils.logging.get_verbosity()
    SpeechEncoder.from_pretrained(tmp_path)
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert transformers.utils.logging.get_verbosity() == level


def test_another_architecture_is_refused(tmp_path):
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=rf"{tmp_path}.*'bert'.*wav2vec2, hubert, wavlm, whisper"):
        SpeechEncoder.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="'bert'"):
        SpeechEncoder.from_config(config)


def test_incomplete_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=rf"{tmp_path}: no readable config\.json"):
        SpeechEncoder.from_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="transformers model, PEFT's adapters merged"):
        SpeechEncoder.from_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    write_model(tmp_path, "wav2vec2")
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    weights = load_file(path)
    weights.pop("masked_spec_embed")
    save_file(weights, path, {"format": "pt"})
    one, other = (SpeechEncoder.from_pretrained(tmp_path).model.masked_spec_embed for _ in range(2))
    assert torch.equal(one, other)
    weights.pop("encoder.layers.0.attention.k_proj.weight")
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"lack 1 tensors .*encoder\.layers\.0\.attention\.k_proj\.weight"):
        SpeechEncoder.from_pretrained(tmp_path)
    path.write_bytes(whole[:100])
    with pytest.raises(InputError, match="weights cannot be read"):
        SpeechEncoder.from_pretrained(tmp_path)
    weights["encoder.layers.0.attention.k_proj.weight"] = torch.zeros(3, 3)
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(InputError, match="weights cannot be read"):
        SpeechEncoder.from_pretrained(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=rf"{tmp_path}: config\.json without whole weights"):
        SpeechEncoder.from_pretrained(tmp_path)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(whole)
    with pytest.raises(InputError, match="without whole weights"):
        SpeechEncoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"no readable config\.json"):
        SpeechEncoder.from_pretrained(tmp_path)


def test_an_unknown_name_is_one_sentence():
    with pytest.raises(InputError, match=r"^nobody/no-such-model: no folder has this name") as caught:
        SpeechEncoder.from_pretrained("nobody/no-such-model")
    assert "\n" not in str(caught.value)


def write_settings(folder, file, settings):
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    (folder / file).write_text(settings if isinstance(settings, str) else json.dumps(settings))


WAV2VEC2_SETTINGS = {"do_normalize": False, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("processor_config.json", {"feature_extractor": WAV2VEC2_SETTINGS, "processor_class": "Wav2Vec2Processor"}),
        ("processor_config.json", {"feature_extractor": {"do_normalize": False}}),
        ("processor_config.json", {"audio_processor": WAV2VEC2_SETTINGS}),
        ("processor_config.json", {"feature_extractor": {**WAV2VEC2_SETTINGS, "do_normalize": True}}),
        ("preprocessor_config.json", {**WAV2VEC2_SETTINGS, "return_attention_mask": True, "padding_side": "left"}),
        ("preprocessor_config.json", {"do_normalize": False}),
    ],
)
@pytest.mark.parametrize("variant", ["wav2vec2", "hubert-large", "data2vec-audio", "unispeech-sat"])
def test_clips_are_normalised_as_by_the_feature_extractor_of_transformers(variant, file, settings, tmp_path, clips):
    model = write_model(tmp_path, variant)
    write_settings(tmp_path, file, settings)
    encoder, extractor = SpeechEncoder.from_pretrained(tmp_path), AutoFeatureExtractor.from_pretrained(tmp_path)
    for clip in clips:
        given = extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
        with torch.no_grad():
            expected = model(given, output_hidden_states=True)
        found = run(encoder, clip[None])
        torch.testing.assert_close(found[-1], expected.last_hidden_state, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(found[1], expected.hidden_states[1], rtol=1e-4, atol=2e-5)
    encoder.save_pretrained(tmp_path / "again")
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "again").do_normalize == extractor.do_normalize


def test_what_version_5_writes_counts_more_than_what_lies_beside_it(tmp_path):
    write_model(tmp_path, "hubert")
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": WAV2VEC2_SETTINGS}))
    assert AutoFeatureExtractor.from_pretrained(tmp_path).do_normalize is False
    assert SpeechEncoder.from_pretrained(tmp_path).preprocessor.do_normalize is False


def test_whisper_is_prepared_as_its_processor_says(tmp_path, clips):
    model = write_model(tmp_path, "whisper", preprocessor=False, num_mel_bins=40)
    settings = WhisperFeatureExtractor(feature_size=40, chunk_length=2, n_fft=320).to_dict()
    write_settings(tmp_path, "processor_config.json", {"feature_extractor": settings})
    extractor, encoder = AutoFeatureExtractor.from_pretrained(tmp_path), SpeechEncoder.from_pretrained(tmp_path)
    features = extractor(clips[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = model.encoder(features).last_hidden_state[:, :50]
    torch.testing.assert_close(run(encoder, clips[:1])[-1], expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kept", [None, {"processor_class": "Wav2Vec2Processor"}])
@pytest.mark.parametrize("variant", ["wav2vec2", "whisper"])
def test_a_folder_that_says_nothing_of_its_audio_is_noted(variant, kept, tmp_path):
    write_model(tmp_path, variant, preprocessor=False)
    if kept:
        write_settings(tmp_path, "processor_config.json", kept)
    said = []
    with tiny.listening(said.append):
        encoder = SpeechEncoder.from_pretrained(tmp_path)
        SpeechEncoder.from_config(CONFIGS[variant]())
    (line,) = said
    assert str(tmp_path) in line and "preprocessor_config.json" in line and "processor_config.json" in line
    assert variant == "whisper" or encoder.preprocessor.do_normalize


@pytest.mark.parametrize(
    ("variant", "file", "settings", "message"),
    [
        ("hubert", "preprocessor_config.json", {"sampling_rate": 8_000}, "8000 Hz, expected 16000 Hz"),
        (
            "hubert",
            "processor_config.json",
            {"feature_extractor": {"sampling_rate": 44_100}},
            "44100 Hz, expected 16000",
        ),
        ("whisper", "preprocessor_config.json", {"sampling_rate": 8_000}, "8000 Hz, expected 16000 Hz"),
        ("hubert", "preprocessor_config.json", {"feature_size": 80}, "80 features a frame, expected .* 1"),
        ("whisper", "preprocessor_config.json", {"feature_size": 128}, "128 features a frame, expected .* 80"),
        ("hubert", "preprocessor_config.json", {"feature_extractor_type": "SeamlessM4TFeatureExtractor"}, "Seamless"),
        ("whisper", "preprocessor_config.json", WAV2VEC2_SETTINGS, "Wav2Vec2.*expected a WhisperFeatureExtractor"),
        ("hubert", "preprocessor_config.json", {"feature_extractor_type": "NoSuch"}, "cannot be read"),
        ("hubert", "preprocessor_config.json", {"auto_map": {"AutoFeatureExtractor": "a--b.C"}}, "cannot be read"),
        ("hubert", "preprocessor_config.json", "{", "cannot be read"),
        ("hubert", "processor_config.json", "{", "cannot be read"),
    ],
)
def test_another_input_is_refused(variant, file, settings, message, tmp_path):
    write_model(tmp_path, variant)
    write_settings(tmp_path, file, settings)
    with pytest.raises(InputError, match=message) as caught:
        SpeechEncoder.from_pretrained(tmp_path)
    tiny.one_sentence(str(caught.value), tmp_path)


@pytest.mark.parametrize("model_type", ["wav2vec2-conformer", "wav2vec2-bert", "sew", "mctct"])
def test_a_speech_model_that_is_not_carried_is_refused_by_name(model_type, tmp_path):
    """Conformers attend by relative positions, and w2v-BERT hears stacked filter banks: special cases throughout."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(InputError) as caught:
        SpeechEncoder.from_pretrained(tmp_path)
    tiny.one_sentence(str(caught.value), tmp_path, f"'{model_type}'", *FAMILIES)


@pytest.mark.parametrize("head", ["ForCTC", "ForSequenceClassification", "ForXVector"])
@pytest.mark.parametrize("variant", ["wav2vec2", "hubert-large", "wavlm", "data2vec-audio", "unispeech-sat"])
def test_heads_on_top_and_adapters_after_the_last_layer_are_left_out(variant, head, tmp_path, clips):
    config = CONFIGS[variant](num_labels=3)
    if hasattr(config, "add_adapter") and head != "ForSequenceClassification":  # transformers refuses both
        config.add_adapter = True
    kind = getattr(transformers, type(config).__name__.replace("Config", head), None)
    if kind is None:
        pytest.skip(f"transformers has no {variant} {head}")
    headed = kind(config).eval()
    headed.save_pretrained(tmp_path / "headed")
    feature_extractor(config).save_pretrained(tmp_path / "headed")
    encoder = SpeechEncoder.from_pretrained(tmp_path / "headed")
    body = headed.base_model
    body.adapter = None
    expected = reference_states(body, clips)
    torch.testing.assert_close(run(encoder, clips), expected, rtol=1e-4, atol=2e-5)
    assert all(p.grad_fn is None for p in encoder.parameters())
    encoder.save_pretrained(tmp_path / "saved")
    plain, report = AutoModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    torch.testing.assert_close(reference_states(plain, clips), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("wav2vec2", {"feat_extract_norm": "layer", "conv_bias": True}),
        ("wav2vec2", {"do_stable_layer_norm": True}),
        ("hubert", {"feat_extract_norm": "layer"}),
        ("hubert", {"feat_proj_layer_norm": False}),
        ("hubert", {"conv_pos_batch_norm": True}),
        ("unispeech-sat", {"do_stable_layer_norm": True}),
        ("wav2vec2-large", {"adapter_attn_dim": 4}),
        ("hubert-large", {"mask_time_prob": 0.0}),
    ],
)
def test_every_shape_of_checkpoint_has_the_states_of_transformers(variant, changes, tmp_path, clips):
    model = write_model(tmp_path, variant, **changes)
    torch.testing.assert_close(
        run(SpeechEncoder.from_pretrained(tmp_path), clips), reference_states(model, clips), rtol=1e-4, atol=2e-5
    )


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n"


@pytest.mark.parametrize("form", ["safetensors", "bin", "sharded safetensors", "sharded bin"])
def test_weights_in_every_form_are_read_and_a_broken_part_is_named(form, tmp_path, clips):
    model = write_model(tmp_path, "hubert")
    expected = reference_states(model, clips)
    if form == "sharded safetensors":
        (tmp_path / "model.safetensors").unlink()
        model.save_pretrained(tmp_path, max_shard_size="6KB")
    elif "bin" in form:
        (tmp_path / "model.safetensors").unlink()
        state = model.state_dict()
        names = list(state)
        parts = [names] if form == "bin" else [names[::2], names[1::2]]
        files = ["pytorch_model.bin"] if form == "bin" else [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
        for part, file in zip(parts, files, strict=True):
            torch.save({name: state[name] for name in part}, tmp_path / file)
        if form == "sharded bin":
            index = {name: file for part, file in zip(parts, files, strict=True) for name in part}
            (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    found = run(SpeechEncoder.from_pretrained(tmp_path), clips)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)
    part = sorted([*tmp_path.glob("*.safetensors"), *tmp_path.glob("*.bin")])[-1]
    whole = part.read_bytes()
    for broken, said in (
        (LFS, "git-lfs"),
        (b"", "empty"),
        (b"<html>no</html>", "web page"),
        (whole[: len(whole) // 2], "be read"),
    ):
        part.write_bytes(broken)
        with pytest.raises(InputError, match=said) as caught:
            SpeechEncoder.from_pretrained(tmp_path)
        tiny.one_sentence(str(caught.value), tmp_path)
    part.unlink()
    with pytest.raises(InputError, match="without whole weights"):
        SpeechEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("index", ["{", "{}", "[]", '{"weight_map": 3}'])
def test_a_broken_index_of_shards_is_no_weights(index, tmp_path):
    write_model(tmp_path, "hubert")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match="without whole weights"):
        SpeechEncoder.from_pretrained(tmp_path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    write_model(tmp_path, "hubert")
    (tmp_path / "model.safetensors").unlink()
    torch.save({"a": Code()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be read"):
        SpeechEncoder.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("variant", "audio", "message"),
    [
        ("hubert", torch.zeros(16_000), r"\(16000,\)"),
        ("hubert", torch.zeros(1, 16_000, dtype=torch.int16), "int16"),
        ("hubert", torch.zeros(1, 399), "399 samples, too short"),
        ("whisper", torch.zeros(1, 0), "too short"),
        ("whisper", torch.zeros(1, 32_001), r"2\.00 s, expected at most 2 s"),
    ],
)
def test_audio_that_does_not_fit_is_refused(variant, audio, message):
    with pytest.raises(InputError, match=message):
        SpeechEncoder.from_config(CONFIGS[variant]()).front_end(audio)


def test_what_fairseq_left_beside_the_weights_is_no_hindrance(tmp_path, clips):
    model = write_model(tmp_path, "hubert")
    path = tmp_path / "model.safetensors"
    left = {
        "mask_emb": torch.zeros(16),
        "label_embs_concat": torch.zeros(9, 16),
        "final_proj.weight": torch.zeros(4, 16),
    }
    save_file({f"hubert.{name}": value for name, value in load_file(path).items()} | left, path, {"format": "pt"})
    found = run(SpeechEncoder.from_pretrained(tmp_path), clips)
    torch.testing.assert_close(found, reference_states(model, clips), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "content",
    [
        {"args": None, "model": {"mask_emb": torch.zeros(16)}},
        {"w2v_encoder.w2v_model.encoder.layers.0.fc1.weight": torch.zeros(2, 2)},
        [torch.zeros(3)],
        {},
        {"encoder.layer_norm.weight": 3},
    ],
)
def test_weights_of_another_program_are_refused(content, tmp_path):
    write_model(tmp_path, "hubert")
    (tmp_path / "model.safetensors").unlink()
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"lack \d+ tensors|cannot be read") as caught:
        SpeechEncoder.from_pretrained(tmp_path)
    tiny.one_sentence(str(caught.value), tmp_path)
