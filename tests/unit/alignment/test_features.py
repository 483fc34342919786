import numpy as np
import pytest
import tiny
import torch
from braintuning.alignment import features as extract
from braintuning.alignment.features import extract_features, tokens
from braintuning.study.settings import Features

RATE = 16_000
AUDIO = tiny.sound(1, seconds=5.05).astype(np.float32)


def settings(window=2.0, hop=0.5, step=0.5, batch_size=16):
    return Features(window_seconds=window, hop_seconds=hop, step_seconds=step, batch_size=batch_size)


def read(encoders, audio, settings):
    """Tokens of one story, and their times."""
    (found,) = tokens(encoders, [audio], settings)
    return found


def states(encoder, start, end):
    """Hidden states (layers + 1, frames, dim) of the samples from `start` to `end` seconds alone."""
    window = AUDIO[round(start * RATE) : round(end * RATE)]
    with torch.no_grad():
        return encoder(torch.from_numpy(window)[None])[:, 0].numpy()


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_with_hop_and_step_alike_every_token_is_the_last_of_its_own_window(family):
    encoder = tiny.encoder(family)
    (found,), times = read([encoder], AUDIO, settings())
    ends = [0.5 * k for k in range(1, 11)]
    expected = np.stack([states(encoder, max(0.0, end - 2.0), end)[:, -1] for end in ends], axis=1)
    assert found.shape == (encoder.n_layers + 1, 10, encoder.dim) and found.dtype == np.float32
    np.testing.assert_allclose(times, ends, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_window_is_shorter_at_the_start_and_nothing_after_it_is_heard():
    encoder = tiny.encoder()
    (found,), _ = read([encoder], AUDIO, settings())
    later = AUDIO.copy()
    later[round(1.5 * RATE) :] = 0
    (changed,), _ = read([encoder], later, settings())
    np.testing.assert_allclose(found[:, :3], changed[:, :3], atol=1e-6)
    assert np.abs(found[:, 3] - changed[:, 3]).max() > 1e-3
    np.testing.assert_allclose(found[:, 0], states(encoder, 0.0, 0.5)[:, -1], atol=2e-5)


def test_a_window_forgets_what_was_heard_before_it():
    encoder = tiny.encoder()
    (found,), _ = read([encoder], AUDIO, settings(window=1.0))
    deaf = AUDIO.copy()
    deaf[:RATE] = 0
    (changed,), _ = read([encoder], deaf, settings(window=1.0))
    np.testing.assert_allclose(found[:, 3:], changed[:, 3:], atol=1e-5)
    assert np.abs(found[:, 2] - changed[:, 2]).max() > 1e-3


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_with_a_longer_hop_each_token_is_the_frame_heard_at_its_time(family):
    encoder = tiny.encoder(family)
    (found,), times = read([encoder], AUDIO, settings(window=2.0, hop=1.0, step=0.2))
    expected, moments = [], []
    for end in (1.0, 2.0, 3.0, 4.0, 5.0):
        hidden = states(encoder, max(0.0, end - 2.0), end)
        for back in (0.8, 0.6, 0.4, 0.2, 0.0):
            expected.append(hidden[:, hidden.shape[1] - 1 - round(back / 0.02)])
            moments.append(end - back)
    np.testing.assert_allclose(times, moments, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=2e-5)


def test_a_hop_longer_than_the_window_leaves_the_rest_unread():
    _, times = read([tiny.encoder()], AUDIO, settings(window=1.0, hop=2.0, step=0.5))
    np.testing.assert_allclose(np.sort(times), [1.5, 2.0, 3.5, 4.0, 4.5, 5.0], atol=1e-9)


@pytest.mark.parametrize("hop", [0.2, 1.6, 3.4, 8.0])
def test_every_step_of_a_story_has_one_token_up_to_its_end(hop):
    encoder = tiny.encoder()
    (found,), times = read([encoder], AUDIO, settings(window=8.0, hop=hop, step=0.2))
    np.testing.assert_allclose(np.sort(times), np.arange(1, 26) * 0.2, atol=1e-9)
    np.testing.assert_allclose(found[:, np.argmax(times)], states(encoder, 0.0, 5.0)[:, -1], atol=2e-5)


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_features_do_not_depend_on_the_batch_size(family):
    encoder = tiny.encoder(family)
    (one,), times_of_one = read([encoder], AUDIO, settings(batch_size=1))
    (many,), times_of_many = read([encoder], AUDIO, settings(batch_size=7))
    np.testing.assert_allclose(one, many, atol=1e-5)
    np.testing.assert_array_equal(times_of_one, times_of_many)


def test_no_frame_is_read_from_the_wrong_end_of_a_window():
    encoder = tiny.encoder("hubert")
    (found,), times = read([encoder], AUDIO, settings(window=1.0, hop=1.0, step=0.02))
    hidden = states(encoder, 0.0, 1.0)
    in_window = times <= 1.0 + 1e-9
    for token, time in zip(found[:, in_window].swapaxes(0, 1), times[in_window], strict=True):
        frame = hidden.shape[1] - 1 - round((1.0 - time) / 0.02)
        assert frame >= 0, f"a token at {time:.2f} s, before the first frame"
        np.testing.assert_allclose(token, hidden[:, frame], atol=2e-5)


def test_story_features_are_lanczos_sums_of_the_tokens():
    encoder = tiny.encoder()
    (fine,), fine_times = read([encoder], AUDIO, settings(hop=0.1, step=0.1))
    rows = np.array([-1.0, 0.7, 2.1, 3.5, 9.5])
    found = extract_features(encoder, AUDIO, rows, 1.4, settings(hop=0.1, step=0.1))
    expected = np.zeros((encoder.n_layers + 1, len(rows), encoder.dim))
    for i, row in enumerate(rows):
        for j, moment in enumerate(fine_times):
            x = (row - moment) / 1.4
            if abs(x) <= 3:
                weight = 1.0 if x == 0 else 3 * np.sin(np.pi * x) * np.sin(np.pi * x / 3) / (np.pi * x) ** 2
                expected[:, i] += weight * fine[:, j]
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert not found[:, -1].any()


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_models_that_share_a_front_end_are_read_together_as_they_are_alone(family, monkeypatch):
    encoders = [tiny.encoder(family) for _ in range(3)]
    for number, encoder in enumerate(encoders):
        with torch.no_grad():
            for parameter in encoder.trainable_parameters():
                parameter.mul_(1 + 0.1 * number)
    assert encoders[0].same_front_end(encoders[2])
    alone = [read([encoder], AUDIO, settings())[0][0] for encoder in encoders]
    heard = []
    plain = type(encoders[0]).front_end
    monkeypatch.setattr(
        type(encoders[0]), "front_end", lambda self, audio: heard.append(len(audio)) or plain(self, audio)
    )
    together, _ = read(encoders, AUDIO, settings())
    assert sum(heard) == 10
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    assert np.abs(together[0] - together[2]).max() > 1e-3


@pytest.mark.parametrize("family", tiny.CONFIGS)
@pytest.mark.parametrize("most_on_device", [0, 10_000, 1 << 30])
def test_stories_read_together_are_what_each_is_alone(family, most_on_device, monkeypatch):
    encoders = [tiny.encoder(family), tiny.encoder(family)]
    with torch.no_grad():
        encoders[1].trainable_parameters()[0].add_(0.1)
    stories = [AUDIO, tiny.sound(2, seconds=0.8).astype(np.float32), tiny.sound(3, seconds=3.2).astype(np.float32)]
    alone = [read(encoders, story, settings(window=1.5, batch_size=2)) for story in stories]
    monkeypatch.setattr(extract, "MOST_ON_DEVICE", most_on_device)
    clips, plain = [], type(encoders[0]).front_end

    def noting(self, audio):
        clips.append(tuple(audio.shape))
        return plain(self, audio)

    monkeypatch.setattr(type(encoders[0]), "front_end", noting)
    together = list(tokens(encoders, stories, settings(window=1.5, batch_size=2)))
    short = [(2, 8000), (1, 8000), (2, 16000)]  # three stories at 0.5 s, two of them at 1 s
    long = [(2, 24000)] * 4 + [(2, 24000)] * 2  # windows of 1.5 s of the first, then of the third
    assert clips == short + long
    for (found, times), (expected, expected_times) in zip(together, alone, strict=True):
        np.testing.assert_array_equal(times, expected_times)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("family", ["hubert", "wav2vec2"])
def test_weights_that_change_between_sweeps_are_seen(family):
    encoder = tiny.encoder(family)
    (before,), _ = read([encoder], AUDIO, settings())
    with torch.no_grad():
        for parameter in encoder.model.encoder.pos_conv_embed.parameters():
            parameter.mul_(2)
    (after,), _ = read([encoder], AUDIO, settings())
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after[:, 0], states(encoder, 0.0, 0.5)[:, -1], atol=2e-5)


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_another_front_end_is_noticed(family):
    encoder, other = tiny.encoder(family), tiny.encoder(family)
    front = (
        other.model.encoder.conv1.weight if family == "whisper" else next(other.model.feature_extractor.parameters())
    )
    with torch.no_grad():
        front.view(-1)[0] += 1
    assert not encoder.same_front_end(other)


@pytest.mark.parametrize("family", tiny.CONFIGS)
@pytest.mark.parametrize(("seconds", "window"), [(5.05, 2.0), (3.5, 2.0), (0.7, 2.0), (0.7, 0.5)])
def test_a_story_is_read_to_its_end_though_no_hop_ends_there(family, seconds, window):
    """By a last window that ends with the last step, and whose other tokens are those of windows before it."""
    encoder, audio = tiny.encoder(family), AUDIO[: round(seconds * RATE)]
    (found,), times = read([encoder], audio, settings(window=window, hop=2.0, step=0.1))
    ends = [*np.arange(2.0, seconds, 2.0), np.floor(seconds * 10 + 1e-6) / 10]
    moments, expected = [], []
    for before, end in zip([0.0, *ends], ends, strict=False):
        hidden, n_tokens = states(encoder, max(0.0, end - window), end), round(10 * min(end - before, window))
        back = [number / 10 for number in reversed(range(n_tokens)) if round(5 * number) < hidden.shape[1]]
        moments += [end - one for one in back]
        expected += [hidden[:, hidden.shape[1] - 1 - round(one / 0.02)] for one in back]
    np.testing.assert_allclose(times, moments, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=2e-5)


@pytest.mark.parametrize(("family", "change"), [("whisper", "pad_to_30s"), ("hubert", "do_normalize")])
def test_a_front_end_with_the_same_weights_that_takes_audio_otherwise_is_another(family, change):
    encoder, other = tiny.encoder(family), tiny.encoder(family)
    assert encoder.same_front_end(other)
    owner = other if change == "pad_to_30s" else other.preprocessor
    setattr(owner, change, not getattr(owner, change))
    assert not encoder.same_front_end(other)


def test_audio_shorter_than_a_step_is_refused():
    tiny.refused(lambda: read([tiny.encoder()], AUDIO[:7999], settings()), "7999 samples", "0.5 s")
