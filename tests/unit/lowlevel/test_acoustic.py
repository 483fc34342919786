import numpy as np
import pytest
from braintuning.datasets.textgrid import Interval
from braintuning.lowlevel.acoustic import occupancy, power_spectrum

RATE = 16_000


def tone(hertz, seconds=0.5, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("hertz", [300, 1000, 2500, 6000])
def test_tone_is_loudest_in_the_mel_band_around_it(hertz):
    bands, _ = power_spectrum(tone(hertz))
    assert bands.shape[1] == 32 and bands.dtype == np.float32
    mel = 2595 * np.log10(1 + np.array([hertz, RATE / 2]) / 700)
    nearest = np.abs(np.linspace(0, mel[1], 34)[1:-1] - mel[0]).argmin()
    assert (bands.argmax(axis=1) == nearest).all()


def test_ten_times_the_amplitude_is_twenty_decibels_more():
    loud, quiet = (power_spectrum(tone(1000, amplitude=a))[0] for a in (0.5, 0.05))
    heard = quiet > -79
    assert heard.any()
    np.testing.assert_allclose((loud - quiet)[heard], 20, atol=1e-2)


def test_silence_is_the_floor():
    assert (power_spectrum(np.zeros(RATE, np.float32))[0] == -80).all()


@pytest.mark.parametrize("at", [4000, 8000, 12_345])
def test_times_are_the_centres_of_the_windows(at):
    click = np.zeros(RATE, np.float32)
    click[at] = 1
    bands, times = power_spectrum(click)
    assert len(bands) == len(times)
    np.testing.assert_allclose(np.diff(times), 0.01)
    assert times[bands.mean(axis=1).argmax()] == pytest.approx(at / RATE, abs=0.005)
    heard = (bands > -80).any(axis=1)
    assert (np.abs(times[heard] - at / RATE) <= 0.0125).all()
    assert heard.sum() in (2, 3)


def test_frame_is_the_power_of_a_hann_window_at_its_time():
    audio = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    bands, times = power_spectrum(audio)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), 34) / 2595) - 1)
    frequencies = np.arange(257) * RATE / 512
    for frame in (0, 17, len(times) - 1):
        centre = round(times[frame] * RATE)
        power = np.abs(np.fft.rfft(audio[centre - 200 : centre + 200] * hann, 512)) ** 2
        expected = [power @ np.interp(frequencies, edges[b : b + 3], [0, 1, 0]) for b in range(32)]
        np.testing.assert_allclose(10 ** (bands[frame] / 10), expected, rtol=1e-3)


def test_occupancy_is_the_share_of_each_step_that_a_span_fills():
    spans = [(0.0, 0.1), (0.13, 0.17), (0.05, 0.42), (0.3, 0.3), (-0.2, 0.02), (0.45, 9.0)]
    found = occupancy([Interval("", *span) for span in spans], 0.1, 5)
    moments = (np.arange(50_000) + 0.5) / 1e5
    expected = [
        [((moments >= s) & (moments < e))[i * 10_000 : (i + 1) * 10_000].mean() for s, e in spans] for i in range(5)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert found.dtype == np.float32 and occupancy([], 0.1, 5).shape == (5, 0)
