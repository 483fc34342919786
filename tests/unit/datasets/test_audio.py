import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from braintuning.datasets.audio import check_speech, read_audio, require_audio, write_wav
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.timing import SAMPLE_RATE
from scipy.io import wavfile


def tone(frequency, rate, seconds, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


def amplitude_at(audio, frequency, rate):
    """Amplitude of one frequency by projection on a Hann-windowed complex exponential."""
    window = np.hanning(len(audio))
    wave = np.exp(-2j * np.pi * frequency * np.arange(len(audio)) / rate)
    return 2 * abs(np.sum(window * audio * wave)) / window.sum()


@pytest.mark.parametrize(("suffix", "tolerance"), [(".wav", 1e-3), (".flac", 1e-3), (".ogg", 2e-2)])
def test_stereo_tone_keeps_frequency_amplitude_and_phase(tmp_path, suffix, tolerance):
    path = tmp_path / f"tone{suffix}"
    stereo = np.stack([tone(440, 44_100, 2), 0.5 * tone(440, 44_100, 2)], axis=1)
    soundfile.write(path, stereo, 44_100)
    audio = read_audio(path)
    assert audio.dtype == np.float32
    assert audio.shape == (32_000,)
    inner = slice(1600, -1600)
    np.testing.assert_allclose(audio[inner], 0.75 * tone(440, SAMPLE_RATE, 2)[inner], atol=tolerance)
    assert amplitude_at(audio[inner], 441, SAMPLE_RATE) < amplitude_at(audio[inner], 440, SAMPLE_RATE)
    assert amplitude_at(audio[inner], 440, SAMPLE_RATE) == pytest.approx(0.375, rel=2e-2)


def test_tone_above_the_new_nyquist_is_suppressed_and_not_folded(tmp_path):
    path = tmp_path / "mixed.wav"
    soundfile.write(path, tone(1000, 44_100, 2, 0.2) + tone(9000, 44_100, 2, 0.5), 44_100, subtype="FLOAT")
    inner = read_audio(path)[1600:-1600]
    assert amplitude_at(inner, 7000, SAMPLE_RATE) < 1e-4
    assert amplitude_at(inner, 1000, SAMPLE_RATE) == pytest.approx(0.2, rel=1e-3)
    assert np.sqrt(np.mean(inner**2)) == pytest.approx(0.2 / np.sqrt(2), rel=1e-3)


@pytest.mark.parametrize(
    ("rate", "samples"), [(44_100, 44_100), (44_100, 100_003), (48_000, 99_999), (22_050, 7), (8000, 333)]
)
def test_duration_to_the_sample(tmp_path, rate, samples):
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, samples), rate)
    assert abs(len(read_audio(path)) - samples * SAMPLE_RATE / rate) <= 0.5


def test_click_stays_at_its_time(tmp_path):
    path = tmp_path / "click.wav"
    samples = np.zeros(88_200)
    samples[44_100 + 22_050] = 1
    soundfile.write(path, samples, 44_100)
    assert np.abs(read_audio(path)).argmax() == 24_000


def test_16_khz_mono_is_read_unchanged(tmp_path):
    path = tmp_path / "plain.wav"
    samples = np.random.default_rng(1).uniform(-1, 1, 5000).astype(np.float32)
    soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(path), samples)


def test_written_wav_agrees_with_scipy(tmp_path):
    path = tmp_path / "new" / "speech.wav"
    samples = np.random.default_rng(2).uniform(-1, 1, 4001).astype(np.float32)
    write_wav(path, samples, 24_000)
    rate, pcm = wavfile.read(path)
    assert rate == 24_000
    assert pcm.dtype == np.int16
    np.testing.assert_allclose(pcm / 32_768, samples, atol=1.01 / 32_768)
    assert [p.name for p in path.parent.iterdir()] == ["speech.wav"]


@pytest.mark.parametrize("bad", [np.full(10, 1.5), np.full(10, np.nan), np.zeros((10, 2)), np.zeros(0)])
def test_write_refuses_what_a_wav_cannot_hold_and_leaves_nothing(tmp_path, bad):
    with pytest.raises(InputError, match=r"x\.wav"):
        write_wav(tmp_path / "x.wav", bad, SAMPLE_RATE)
    assert list(tmp_path.iterdir()) == []


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_file_and_folder(tmp_path):
    assert "nothing found" in refusal(tmp_path / "none.wav")
    assert "folder found" in refusal(tmp_path)


def test_empty_file_and_file_without_samples(tmp_path):
    path = tmp_path / "story.wav"
    path.touch()
    assert "the file is empty" in refusal(path)
    soundfile.write(path, np.zeros(0), 44_100)
    assert "no samples" in refusal(path)


def test_not_a_sound_file(tmp_path):
    path = tmp_path / "story.wav"
    path.write_text("Once upon a time there was no sound at all.")
    assert "not an audio file" in refusal(path)


KINDS = {
    "8-bit": ("WAV", "PCM_U8", 1 / 64), "16-bit": ("WAV", "PCM_16", 1e-4), "24-bit": ("WAV", "PCM_24", 1e-6),
    "32-bit": ("WAV", "PCM_32", 1e-6), "float": ("WAV", "FLOAT", 1e-6), "double": ("WAV", "DOUBLE", 1e-6),
    "extensible": ("WAVEX", "PCM_24", 1e-6), "RF64": ("RF64", "PCM_24", 1e-6), "w64": ("W64", "FLOAT", 1e-6),
    "AIFF": ("AIFF", "PCM_24", 1e-6), "SPHERE": ("NIST", "PCM_16", 1e-4),
}  # fmt: skip


def test_of_a_sphere_file_the_head_alone_is_read_to_know_its_length(tmp_path, monkeypatch):
    soundfile.write(path := tmp_path / "SA1.WAV", np.zeros(20_000), SAMPLE_RATE, format="NIST", subtype="PCM_16")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read whole"))
    assert require_audio(path) == path
    os.truncate(path, 20_000)
    with pytest.raises(InputError, match="half a file, which promises 20000 samples"):
        require_audio(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_numbers_of_any_size_are_read_whole_and_half_a_file_is_called_that(tmp_path, kind, channels):
    form, subtype, tolerance = KINDS[kind]
    path = tmp_path / "a story.wav"
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (20_000, channels))
    soundfile.write(path, samples, SAMPLE_RATE, format=form, subtype=subtype)
    assert require_audio(path) == path
    np.testing.assert_allclose(read_audio(path), samples.mean(axis=1), atol=tolerance)
    whole = path.read_bytes()
    for share in (0.5, 0.97):
        path.write_bytes(whole[: int(share * len(whole))])
        for call in (require_audio, read_audio):
            with pytest.raises(
                InputError, match=r"a story\.wav: half a file, which promises \d+ .* where about \d+ are"
            ):
                call(path)
    path.write_bytes(whole + b"LIST\x04\0\0\0abcd" * (form == "WAV"))
    require_audio(path)


@pytest.mark.parametrize(("form", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16"), ("MP3", None)])
def test_half_a_compressed_file_is_called_that(tmp_path, form, subtype):
    path = tmp_path / "story"
    soundfile.write(
        path, np.random.default_rng(0).uniform(-0.5, 0.5, 160_000), SAMPLE_RATE, format=form, subtype=subtype
    )
    whole = path.read_bytes()
    assert len(read_audio(require_audio(path))) >= 160_000
    for n_bytes in (len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:n_bytes])
        assert "half a file" in refusal(path)
        if form == "OGG":
            with pytest.raises(InputError, match="half a file"):
                require_audio(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_size_that_a_stream_could_not_know_is_no_fault(tmp_path, size):
    path = tmp_path / "streamed.wav"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
    content = path.read_bytes()
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + struct.pack("<I", size) + content[at + 4 :])
    np.testing.assert_allclose(read_audio(path), samples, atol=1e-4)


def test_floating_point_beyond_one_is_not_clipped(tmp_path):
    path = tmp_path / "loud.wav"
    loud = np.stack([tone(440, 48_000, 2, 3.0), tone(440, 48_000, 2, 1.0)], axis=1)
    soundfile.write(path, loud, 48_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path)[1600:-1600], tone(440, SAMPLE_RATE, 2, 2.0)[1600:-1600], atol=1e-3)


def test_samples_that_are_not_finite_are_counted_and_placed(tmp_path):
    path = tmp_path / "broken.wav"
    samples = np.zeros(44_100, np.float32)
    samples[22_050:22_053] = np.nan
    soundfile.write(path, samples, 44_100, subtype="FLOAT")
    assert "3 samples" in (message := refusal(path))
    assert "0.500 s" in message


def test_link_without_content_and_annex_pointer(tmp_path):
    link = tmp_path / "story.wav"
    os.symlink(".git/annex/objects/MD5E-s10--0.wav", link)
    assert "a link to .git/annex/objects" in refusal(link)
    pointer = tmp_path / "other.wav"
    pointer.write_text("/annex/objects/MD5E-s10--0.wav\n")
    assert "git-annex pointer" in refusal(pointer)


def test_real_recording(shared):
    path = shared / "data/alice/audio_revoiced.flac"
    info = soundfile.info(path)
    audio = read_audio(path)
    assert abs(len(audio) - info.duration * SAMPLE_RATE) <= 0.5


def noisy(seconds):
    return np.random.default_rng(3).normal(0, 0.01, round(seconds * SAMPLE_RATE)).astype(np.float32)


def said_at(*seconds):
    return [Interval("tale", second - 0.2, second + 0.2) for second in seconds]


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_hole_is_named_with_its_times_and_the_words_in_it(level):
    audio = noisy(40)
    audio[12 * SAMPLE_RATE : 23 * SAMPLE_RATE] = level
    where = r"story\.wav: digital silence from 12\.00 s to 23\.00 s and 2 words in it \('tale'\)"
    with pytest.raises(InputError, match=where):
        check_speech(audio, "story.wav", said_at(5, 13, 20, 30), "words")


def test_a_pause_between_words_may_be_silent():
    audio = noisy(40)
    audio[12 * SAMPLE_RATE : 23 * SAMPLE_RATE] = 0
    assert check_speech(audio, "story.wav", said_at(5, 11.9, 23.1, 30), "words") == 40


def test_limit_of_silence():
    audio = noisy(30)
    audio[20 * SAMPLE_RATE :] = 0
    with pytest.raises(InputError, match=r"20\.00 s to 30\.00 s"):
        check_speech(audio, "story.wav", said_at(5, 21), "words")
    check_speech(audio[: -SAMPLE_RATE // 10], "story.wav", said_at(5, 21), "words")


def test_words_in_the_silence_around_a_sound_are_another_sound_s():
    audio = noisy(60)
    audio[: 20 * SAMPLE_RATE] = 0
    audio[45 * SAMPLE_RATE :] = 0
    check_speech(audio, "story.wav", said_at(21, 44), "words")
    with pytest.raises(InputError, match=r"from 0\.00 s to 20\.00 s"):
        check_speech(audio, "story.wav", said_at(12, 44), "words")
    with pytest.raises(InputError, match=r"from 45\.00 s to 60\.00 s"):
        check_speech(audio, "story.wav", said_at(21, 54), "words")


def test_quiet_noise_of_16_bits_is_not_silence():
    audio = np.random.default_rng(4).integers(-1, 2, 20 * SAMPLE_RATE).astype(np.float32) / 32_768
    check_speech(audio, "story.wav", said_at(5), "words")


def test_hole_survives_resampling(tmp_path):
    path = tmp_path / "holed.wav"
    samples = np.random.default_rng(5).normal(0, 0.1, 44_100 * 14)
    samples[44_100 : 44_100 * 12] = 0.1
    soundfile.write(path, np.stack([samples, samples], 1), 44_100)
    with pytest.raises(InputError, match=r"from 1\.\d\d s to 1[12]\.\d\d s"):
        check_speech(read_audio(path), path, said_at(5), "words")
