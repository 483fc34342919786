import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.demo import pretraining_corpus
from braintuning.demo.pretraining import Pretraining, PretrainingRun, pretrain, save_small, trainable_front_end
from braintuning.demo.pretraining_corpus import (
    HELD_OUT_VOICE,
    PRETRAINING_VOICES,
    MfccUnits,
    draw_clips,
    held_out_speakers,
    pretraining_stories,
    real_speakers,
    real_speech,
    synthesised_stories,
)
from braintuning.demo.voices import VOICES
from braintuning.errors import InputError
from braintuning.probes.mfcc import mfcc
from scipy.fft import dct
from tiny import listening
from transformers import AutoModel
from transformers.audio_utils import mel_filter_bank

MODELS = Path(__file__).resolve().parents[3] / "data" / "models"
SHIPPED = ("hubert-small", "wav2vec2-small")
TINY = {
    **{"layers": 2, "dim": 16, "conv_dim": (8,) * 7, "clip_seconds": 0.5, "batch_size": 2, "units": (5, 6)},
    **{"unit_layer": 1, "log_every": 1, "checkpoint_every": 2, "learning_rate": 1e-3, "seed": 4},
}


def sounds():
    rng = np.random.default_rng(0)
    lengths = {"clara/a": 40_000, "clara/b": 20_000, "real/1": 30_000, "real/short": 100}
    return {name: (rng.standard_normal(n) * 3000).astype(np.int16) for name, n in lengths.items()}


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("family", "kills"), [("hubert", (3, 5, 7)), ("wav2vec2", (3, 7))])
def test_a_killed_run_ends_with_the_same_weights(tmp_path, monkeypatch, family, kills):
    monkeypatch.setattr("braintuning.demo.pretraining.N_CLUSTERED_CLIPS", 30)
    settings = Pretraining(family, steps=(4, 5), **TINY)
    entries = []
    with listening(lambda line: entries.append(json.loads(line))):
        whole = pretrain(settings, sounds(), tmp_path / "whole")
    for after in kills:
        lines = []

        def kill(line, lines=lines, after=after):
            lines.append(line)
            if json.loads(line)["step"] + 4 * (json.loads(line)["round"] - 1) == after:
                raise KilledError

        with pytest.raises(KilledError), listening(kill):
            pretrain(settings, sounds(), tmp_path / "killed")
    resumed = pretrain(settings, sounds(), tmp_path / "killed")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    states = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "killed")]
    assert torch.equal(whole.model.masked_spec_embed, states[0]["objective"]["mask_vector"])
    logs = [state["log"] for state in states]
    assert [e["loss"] for e in logs[0]] == [e["loss"] for e in logs[1]] == [e["loss"] for e in entries]


def test_every_part_of_the_model_is_trained(monkeypatch):
    monkeypatch.setattr("braintuning.demo.pretraining.N_CLUSTERED_CLIPS", 30)
    run = PretrainingRun(Pretraining("hubert", steps=(4, 5), **TINY), sounds(), "cpu")
    before = {name: value.clone() for name, value in run.encoder.model.named_parameters()}
    for _ in range(2):
        run.advance()
    still = [name for name, value in run.encoder.model.named_parameters() if torch.equal(value, before[name])]
    assert still == ["masked_spec_embed"]


def test_first_round_is_the_same_in_both_families(monkeypatch):
    monkeypatch.setattr("braintuning.demo.pretraining.N_CLUSTERED_CLIPS", 30)
    runs = [PretrainingRun(Pretraining(family, **TINY), sounds(), "cpu") for family in ("hubert", "wav2vec2")]
    losses = [[run.advance() for _ in range(2)] for run in runs]
    assert losses[0] == losses[1]
    states = [run.encoder.model.state_dict() for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_second_round_of_wav2vec2_keeps_its_convolutions(monkeypatch):
    monkeypatch.setattr("braintuning.demo.pretraining.N_CLUSTERED_CLIPS", 30)
    run = PretrainingRun(Pretraining("wav2vec2", steps=(1, 2), **TINY), sounds(), "cpu")
    run.advance()
    run.next_round()
    before = {name: value.clone() for name, value in run.encoder.model.named_parameters()}
    run.advance()
    still = {name for name, value in run.encoder.model.named_parameters() if torch.equal(value, before[name])}
    assert still == {name for name in before if name.startswith("feature_extractor")} | {"masked_spec_embed"}


def test_the_trainable_front_end_is_the_front_end_with_a_gradient():
    model = SpeechEncoder.from_config(Pretraining("hubert", **TINY).model_config())
    model.model.requires_grad_(True)
    audio = torch.from_numpy(draw_clips(sounds(), 3, 0.5, 0.5, np.random.default_rng(0)))
    front = trainable_front_end(model, audio)
    torch.testing.assert_close(front, model.front_end(audio), atol=1e-5, rtol=1e-5)
    assert front.requires_grad


def test_settings_are_checked(tmp_path):
    with pytest.raises(InputError, match="family: 'whisper'"):
        Pretraining("whisper")
    with pytest.raises(InputError, match="expected 2 positive numbers"):
        Pretraining("wav2vec2", steps=(3,))
    settings = Pretraining("wav2vec2", steps=(1, 1), **TINY)
    pretrain(settings, sounds(), tmp_path)
    with pytest.raises(InputError, match=r"checkpoint\.pt: a run of"):
        pretrain(replace(settings, learning_rate=0.5), sounds(), tmp_path)
    with pytest.raises(InputError, match="a run on 4 other recordings, expected the 3 given"):
        pretrain(settings, {name: sound for name, sound in sounds().items() if name != "clara/b"}, tmp_path)
    with pytest.raises(InputError, match="none of 9"):
        pretrain(replace(settings, clip_seconds=9.0), sounds(), tmp_path / "b")


def test_clips_are_cut_from_the_sounds_in_the_share_that_was_asked():
    ramp = {"real/x": np.arange(3000, 30_000, dtype=np.int16), "clara/y": np.arange(-30_000, -3000, dtype=np.int16)}
    clips = draw_clips(ramp, 400, 0.1, 0.3, np.random.default_rng(1)) * 32767
    assert clips.dtype == np.float32 and clips.shape == (400, 1600)
    assert np.allclose(np.diff(clips, axis=1), 1, atol=1e-2)
    assert (clips[:, 0] > 0).mean() == pytest.approx(0.3, abs=0.08)


def test_mfcc_equals_numpy_and_keeps_the_models_frames():
    audio = np.random.default_rng(2).standard_normal(16_123).astype(np.float32)
    found = mfcc(torch.from_numpy(audio)[None])[0].numpy()
    model = SpeechEncoder.from_config(Pretraining("hubert", **TINY).model_config())
    assert len(found) == model.n_frames(len(audio))
    scaled = (audio - audio.mean()) / audio.std()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for frame in (0, 17, 40):
        power = np.abs(np.fft.rfft(scaled[320 * frame : 320 * frame + 400] * window, 512)) ** 2
        log_mel = np.log(power @ mel_filter_bank(257, 40, 20.0, 8000, 16_000))
        assert np.allclose(found[frame, :13], dct(log_mel, norm="ortho")[:13], atol=2e-3)


def test_mfcc_units_tell_tones_apart():
    time = np.arange(16_000) / 16_000
    tones = [np.sin(2 * np.pi * f * time).astype(np.float32) for f in (300, 1200, 4000)]
    clips = torch.from_numpy(np.stack(tones) + 0.01 * np.random.default_rng(0).standard_normal((3, 16_000))).float()
    units = MfccUnits.fit(clips, 3, seed=0)(clips)
    assert len({tuple(row.unique().tolist()) for row in units}) == 3
    assert all(len(row.unique()) == 1 for row in units)


def test_synthesised_stories_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining_corpus, "CACHE", tmp_path)
    told = synthesised_stories({"one": "A cat sat down."}, (VOICES["clara"],))
    assert list(told) == ["clara/one"] and told["clara/one"].dtype == np.int16
    assert 0.5 < len(told["clara/one"]) / 16_000 < 5
    monkeypatch.setattr(pretraining_corpus, "speak", None)
    again = synthesised_stories({"one": "A cat sat down."}, (VOICES["clara"],))
    assert np.array_equal(again["clara/one"], told["clara/one"])
    with pytest.raises(TypeError):
        synthesised_stories({"one": "A dog sat down."}, (VOICES["clara"],))


def test_what_is_held_out(shared):
    assert HELD_OUT_VOICE not in {voice.name for voice in PRETRAINING_VOICES} and len(PRETRAINING_VOICES) >= 8
    assert not {"theferry", "marketday"} & set(pretraining_stories())
    assert len(pretraining_stories()) >= 10
    speakers = real_speakers(shared / "data" / "librispeech")
    held_out = held_out_speakers(speakers)
    assert 0.15 < len(held_out) / len(speakers) < 0.25
    few = {name: speakers[name] for name in sorted(speakers)[:4]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining_corpus, "real_speakers", lambda folder: few)
        trained = real_speech(shared)
    assert set(trained) == {f"real/{name}" for name in few} - {f"real/{n}" for n in held_out_speakers(few)}
    assert len(trained) == 3
    assert real_speech(shared / "nowhere") == {}


def test_saved_in_half_precision_and_loaded_in_full(tmp_path):
    model = SpeechEncoder.from_config(Pretraining("wav2vec2", **TINY).model_config(), seed=2)
    save_small(model, tmp_path / "small")
    assert next(model.parameters()).dtype == torch.float32
    loaded = SpeechEncoder.from_pretrained(tmp_path / "small")
    audio = torch.from_numpy(draw_clips(sounds(), 2, 0.5, 0.5, np.random.default_rng(0)))
    with torch.no_grad():
        assert torch.allclose(loaded(audio), model(audio), atol=2e-2)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_load_and_are_finite(name):
    folder = MODELS / name
    assert (folder / "model.safetensors").stat().st_size < 16 * 2**20
    model, report = AutoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    encoder = SpeechEncoder.from_pretrained(folder)
    audio = torch.from_numpy(draw_clips(sounds(), 2, 1.0, 0.5, np.random.default_rng(0)))
    with torch.no_grad():
        states = encoder(audio)
    assert states.shape == (7, 2, 49, 256) and torch.isfinite(states).all()
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert 3e6 < sum(p.numel() for p in encoder.parameters()) < 8e6
