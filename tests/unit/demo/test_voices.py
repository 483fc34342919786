from itertools import pairwise

import numpy as np
import pytest
from braintuning.demo.voices import RATE, VOICES, Voice, scale_pitch, speak
from braintuning.errors import InputError
from braintuning.lowlevel.phones import PHONES, without_stress
from scipy.linalg import solve_toeplitz
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter, stft

TEXT = """Sam saw six small seals asleep on a sandy shore. "We can't stay," said Doctor Moss — she never did.
But the sun was low, the boats were gone... and nobody minded, as far as I know.

Birds circled over the well-known rocks. My sister sang so softly that sleep seized us. Good night, seals."""
WORDS = (
    "sam saw six small seals asleep on a sandy shore we can't stay said doctor moss she never did but the sun was low"
    " the boats were gone and nobody minded as far as i know birds circled over the well-known rocks my sister sang so"
    " softly that sleep seized us good night seals"
).split()
SENTENCE_ENDS = ("shore", "did", "know", "rocks", "us")
VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()


@pytest.fixture(scope="module")
def speeches():
    return {name: speak(TEXT, voice, seed=1) for name, voice in VOICES.items()}


def part(speech, interval):
    return speech.audio[round(interval.start * speech.rate) : round(interval.end * speech.rate)]


def rms(audio):
    return np.sqrt(np.mean(np.square(audio, dtype=np.float64)))


def spectrum_over_time(speech):
    frequencies, times, values = stft(speech.audio, speech.rate, nperseg=480, noverlap=360, nfft=512)
    return frequencies, times, np.abs(values.T) ** 2


def test_word_that_cannot_be_spoken_is_named():
    with pytest.raises(InputError, match="'1990'"):
        speak("In the year 1990 it rained.", VOICES["clara"], seed=0)


@pytest.mark.parametrize("text", ["", " \n\n ", "... — !"])
def test_text_without_words_is_refused(text):
    with pytest.raises(InputError, match="no words"):
        speak(text, VOICES["clara"], seed=0)


@pytest.mark.parametrize("name", VOICES)
def test_every_word_appears_once_in_order_and_phones_fill_words(speeches, name):
    speech = speeches[name]
    duration = len(speech.audio) / speech.rate
    assert [word.label for word in speech.words] == WORDS
    for row in (speech.words, speech.phones):
        assert all(interval.start < interval.end for interval in row)
        assert all(a.end <= b.start + 1e-9 for a, b in pairwise(row))
    assert 0 < speech.words[0].start < speech.words[-1].end < duration
    phones = list(speech.phones)
    for word in speech.words:
        inside = [p for p in phones if word.start - 1e-9 <= p.start and p.end <= word.end + 1e-9]
        assert inside
        assert inside[0].start == pytest.approx(word.start, abs=1e-9)
        assert inside[-1].end == pytest.approx(word.end, abs=1e-9)
        phones = [p for p in phones if p not in inside]
    assert phones == []


@pytest.mark.parametrize(
    ("word", "cmu"),
    [
        ("speech", "S P IY1 CH"),
        ("water", "W AO1 T ER0"),
        ("bird", "B ER1 D"),
        ("judge", "JH AH1 JH"),
        ("thinking", "TH IH1 NG K IH0 NG"),
        ("measure", "M EH1 ZH ER0"),
        ("boy", "B OY1"),
        ("house", "HH AW1 S"),
        ("father", "F AA1 DH ER0"),
        ("yellow", "Y EH1 L OW0"),
        ("good", "G UH1 D"),
        ("alive", "AH0 L AY1 V"),
    ],
)
def test_phones_are_those_of_the_cmu_dictionary(word, cmu):
    speech = speak(f"The {word}.", VOICES["clara"], seed=0)
    start = speech.words[1].start
    assert " ".join(p.label for p in speech.phones if p.start >= start - 1e-9) == cmu


def test_stress_digits_are_on_vowels_only_and_every_phone_is_known(speeches):
    for phone in speeches["clara"].phones:
        assert without_stress(phone.label) in PHONES
        assert phone.label[-1].isdigit() == (phone.label[:2] in VOWELS)


def test_roman_numerals_are_not_read_into_ordinary_words():
    speech = speak("For my part I was glad.", VOICES["clara"], seed=0)
    word = speech.words[3]
    inside = [p.label[:2] for p in speech.phones if word.start <= p.start < word.end]
    assert (word.label, inside) == ("i", ["AY"])


def test_one_seed_one_sound_and_another_seed_another(speeches):
    again, other = (speak(TEXT, VOICES["tobias"], seed=seed) for seed in (1, 2))
    assert again.audio.tobytes() == speeches["tobias"].audio.tobytes()
    assert again.words == speeches["tobias"].words
    assert again.phones == speeches["tobias"].phones
    assert other.words != again.words


@pytest.mark.parametrize("name", VOICES)
def test_sound_is_in_the_words_and_at_one_level(speeches, name):
    speech = speeches[name]
    in_words = rms(np.concatenate([part(speech, word) for word in speech.words]))
    assert in_words == pytest.approx(0.06, rel=0.01)
    assert np.abs(speech.audio).max() <= 0.9
    gaps = [(a.end, b.start) for a, b in pairwise(speech.words) if b.start - a.end > 0.2]
    assert len(gaps) >= len(SENTENCE_ENDS)
    between = [speech.audio[round((a + 0.06) * RATE) : round((b - 0.06) * RATE)] for a, b in gaps]
    assert rms(np.concatenate(between)) < in_words / 50
    assert min(rms(part(speech, word)) for word in speech.words) > in_words / 10


def test_pauses_between_sentences_and_paragraphs():
    speech = speak(TEXT, VOICES["clara"], seed=5)
    gaps = {a.label: b.start - a.end for a, b in pairwise(speech.words)}
    for word in SENTENCE_ENDS:
        low, high = (0.425, 0.6) if word in ("did", "know") else (0.25, 0.425)
        assert low - 1e-4 <= gaps[word] <= high + 1e-4
    assert 0.425 - 1e-4 <= speech.words[0].start <= 0.6 + 1e-4


def test_line_ends_divide_paragraphs_only_after_a_sentence():
    def gap(text):
        speech = speak(text, VOICES["clara"], seed=3)
        return speech.words[2].start - speech.words[1].end

    assert gap("We ran.\nWe fell.") > 0.425 > gap("We ran. We\nfell.") > 0.25
    assert gap("We ran.\n\nWe fell.") > 0.425


@pytest.mark.parametrize("name", ["clara", "edmund", "winnie"])
def test_sound_starts_with_the_first_word_after_a_pause(name):
    speech = speak("Dogs bark. Birds sing. Men dig. Girls run. Boats go by. Time goes on.", VOICES[name], seed=0)
    level = np.sqrt(np.maximum(uniform_filter1d(speech.audio.astype(np.float64) ** 2, round(0.005 * RATE)), 0))
    loud = np.flatnonzero(level > 0.03 * np.median([rms(part(speech, word)) for word in speech.words]))
    errors = []
    for before, word in zip([None, *speech.words], speech.words, strict=False):
        if before is None or word.start - before.end > 0.2:
            silent_until = 0 if before is None else before.end + 0.1
            errors.append(loud[loud >= silent_until * RATE][0] / RATE - word.start)
    assert len(errors) == 6
    assert np.abs(errors).max() < 0.03


@pytest.mark.parametrize("name", VOICES)
def test_s_is_higher_than_any_vowel_where_the_labels_say(speeches, name):
    frequencies, times, power = spectrum_over_time(speeches[name])
    centroid = {}
    for phone in speeches[name].phones:
        inside = (times >= phone.start) & (times < phone.end)
        if inside.any():
            mean = power[inside].mean(axis=0)
            centroid.setdefault(phone.label[:2], []).append(np.sum(frequencies * mean) / mean.sum())
    sibilants = np.array(centroid["S"])
    vowels = np.concatenate([values for label, values in centroid.items() if label in VOWELS])
    assert len(sibilants) >= 12
    assert np.mean(sibilants > 2 * np.median(vowels)) > 0.9


@pytest.mark.parametrize("name", VOICES)
def test_boundary_of_s_and_a_voiced_sound_is_where_the_hiss_changes(speeches, name):
    speech = speeches[name]
    frequencies, times, power = spectrum_over_time(speech)
    high, low = power[:, frequencies > 4000].sum(axis=1), power[:, frequencies < 1500].sum(axis=1)
    hiss = np.log((high + 1e-12) / (low + 1e-12))
    errors = []
    for a, b in pairwise(speech.phones):
        if b.start - a.end < 1e-6 and (a.label == "S") != (b.label == "S") and (a.label + b.label).strip("012") != "SS":
            other = b if a.label == "S" else a
            if other.label[:2] in VOWELS:
                near = (times > a.start) & (times < b.end)
                step = np.gradient(hiss[near]) * (-1 if a.label == "S" else 1)
                errors.append(times[near][step.argmax()] - b.start)
    assert len(errors) >= 10
    assert abs(np.median(errors)) < 0.012
    assert np.median(np.abs(errors)) < 0.02


@pytest.mark.parametrize("name", VOICES)
def test_labels_explain_the_sound_best_where_they_are(speeches, name):
    speech = speeches[name]
    frequencies, times, power = spectrum_over_time(speech)
    edges = np.geomspace(80, 8000, 25)
    bands = [power[:, (frequencies >= a) & (frequencies < b)].sum(axis=1) for a, b in pairwise(edges)]
    bands = np.log(np.stack([band for band in bands if band.any()], axis=1) + 1e-7)

    def explained(shift):
        label = np.full(len(times), "", dtype="<U2")
        for phone in speech.phones:
            label[(times >= phone.start + shift) & (times < phone.end + shift)] = without_stress(phone.label)
        spoken = bands[label != ""]
        residual = sum(np.sum((x - x.mean(axis=0)) ** 2) for x in (bands[label == one] for one in set(label) - {""}))
        return 1 - residual / np.sum((spoken - spoken.mean(axis=0)) ** 2)

    shifts = np.arange(-0.06, 0.061, 0.01)
    assert abs(shifts[np.argmax([explained(shift) for shift in shifts])]) < 0.015


def pitch_track(speech):
    """Fundamental frequency of the voiced 50 ms frames of the vowels, by autocorrelation."""
    found = []
    for phone in speech.phones:
        middle = round((phone.start + phone.end) / 2 * RATE)
        frame = speech.audio[middle - 600 : middle + 600]
        if phone.label[:2] in VOWELS:
            similarity = np.correlate(frame, frame, "full")[1199:] / np.linspace(1, 1 / 1200, 1200)
            lags = np.arange(RATE // 420, RATE // 65)
            best = lags[similarity[lags].argmax()]
            if similarity[best] > 0.7 * similarity[0]:
                found.append(RATE / best)
    return np.array(found)


def test_voices_have_the_pitch_that_they_say(speeches):
    original = np.median(pitch_track(speeches["clara"]))
    assert 160 < original < 230
    for name, voice in VOICES.items():
        assert np.median(pitch_track(speeches[name])) / original == pytest.approx(voice.pitch, rel=0.06)


def test_voices_have_the_vocal_tract_that_they_say(speeches):
    grid = np.geomspace(300, 5000, 400)

    def envelope(speech):
        frequencies, times, power = spectrum_over_time(speech)
        vowels = np.zeros(len(times), bool)
        for phone in speech.phones:
            if phone.label[:2] in VOWELS:
                vowels |= (times >= phone.start) & (times < phone.end)
        shape = np.interp(grid, frequencies, np.log(power[vowels].mean(axis=0)))
        return uniform_filter1d(shape, 60)

    original = envelope(speeches["clara"])
    step = np.log(grid[1] / grid[0])
    lags = np.arange(-60, 61)
    for name, voice in VOICES.items():
        shape = envelope(speeches[name])
        match = [np.corrcoef(original[60:-60], shape[60 + lag : 340 + lag])[0, 1] for lag in lags]
        assert lags[np.argmax(match)] * step == pytest.approx(np.log(voice.warp), abs=0.08)


def test_speed_is_about_what_was_asked_whatever_the_vocal_tract(speeches):
    def spoken(speech):
        return sum(word.end - word.start for word in speech.words)

    for name, voice in VOICES.items():
        assert spoken(speeches["clara"]) / spoken(speeches[name]) == pytest.approx(voice.speed, rel=0.13)
    slow, fast = (speak(TEXT, Voice("x", speed=speed), seed=1) for speed in (0.75, 1.4))
    assert spoken(slow) > 1.2 * spoken(speeches["clara"]) > 1.4 * spoken(fast)


def test_there_are_several_speakers_and_all_differ(speeches):
    assert len(VOICES) >= 4
    assert len({(voice.speed, voice.pitch, voice.warp) for voice in VOICES.values()}) == len(VOICES)
    assert all(name == voice.name for name, voice in VOICES.items())


def test_pitch_alone_leaves_the_timing_as_it_is():
    plain, low = (speak("A plain sentence.", Voice("x", pitch=pitch), seed=0) for pitch in (1.0, 0.7))
    assert len(low.audio) == pytest.approx(len(plain.audio), rel=0.01)
    for a, b in zip(plain.phones, low.phones, strict=True):
        assert a.label == b.label
        assert (a.start, a.end) == pytest.approx((b.start, b.end), abs=0.03)


def test_sentence_without_words_is_passed_over():
    speech = speak("He left.\n\n* * *\n\n... !\n\nShe stayed.".replace("*", "—"), VOICES["clara"], seed=0)
    assert [word.label for word in speech.words] == ["he", "left", "she", "stayed"]


def test_very_long_sentence_is_spoken_whole():
    text = "It rained on the hills, " * 40 + "and then it stopped."
    speech = speak(text, VOICES["clara"], seed=0)
    assert [word.label for word in speech.words] == text.lower().replace(",", "").rstrip(".").split()
    lengths = [word.end - word.start for word in speech.words if word.label == "rained"]
    assert np.std(lengths) < 0.2 * np.mean(lengths)


def vowel(f0, rate, seconds, formants=((700, 90), (1800, 120))):
    """A pulse train through two resonators, and the fundamental frequency of every sample."""
    n = round(rate * seconds)
    track = np.full(n, float(f0))
    pulses = np.zeros(n)
    pulses[:: round(rate / f0)] = 1
    voice = pulses
    for frequency, bandwidth in formants:
        radius = np.exp(-np.pi * bandwidth / rate)
        voice = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * frequency / rate), radius**2], voice)
    return (0.3 * voice / np.abs(voice).max()).astype(np.float32), track


def pitch(audio, rate):
    similarity = np.correlate(audio, audio, "full")[len(audio) - 1 :]
    lags = np.arange(round(rate / 500), round(rate / 60))
    return rate / lags[similarity[lags].argmax()]


def resonances(audio, rate):
    """Peaks of the spectral envelope near 700 and 1800 Hz, from linear prediction by the autocorrelation method."""
    audio = audio * np.hanning(len(audio))
    r = np.correlate(audio, audio, "full")[len(audio) - 1 :][:13]
    polynomial = np.r_[1, -solve_toeplitz(r[:-1], r[1:])]
    frequencies = np.linspace(0, rate / 2, 6000)
    z = np.exp(-2j * np.pi * np.outer(frequencies / rate, np.arange(13)))
    envelope = 1 / np.abs(z @ polynomial)
    return [frequencies[(band := np.abs(frequencies - f) < 350)][envelope[band].argmax()] for f in (700, 1800)]


@pytest.mark.parametrize("factor", [0.6, 0.8, 1.0, 1.25, 1.6])
def test_scaled_pitch_keeps_resonances_and_duration(factor):
    audio, track = vowel(150, 12_000, 1.0)
    moved = scale_pitch(audio, track, 12_000, factor)
    assert moved.shape == audio.shape
    assert moved.dtype == np.float32
    inner = moved[3000:9000]
    assert pitch(inner, 12_000) == pytest.approx(150 * factor, rel=0.015)
    np.testing.assert_allclose(resonances(inner, 12_000), [700, 1800], rtol=0.06)


def test_pitch_factor_of_one_changes_nothing_but_the_grid():
    audio, track = vowel(150, 12_000, 1.0)
    moved = scale_pitch(audio, track, 12_000, 1.0)
    similarity = np.correlate(audio[3000:9000], moved[2900:9100], "valid") / np.sum(audio[3000:9000] ** 2)
    assert similarity.max() == pytest.approx(1, abs=0.02)


def test_scaled_pitch_leaves_whispered_sound_alone():
    rng = np.random.default_rng(6)
    audio, track = vowel(150, 12_000, 2.0)
    audio[12_000:] = rng.normal(0, 0.05, 12_000)
    track[12_000:] = 0
    moved = scale_pitch(audio, track, 12_000, 0.7)
    before, after = (np.sqrt(np.mean(sound[13_000:23_000] ** 2)) for sound in (audio, moved))
    assert after == pytest.approx(before, rel=0.15)
    assert np.abs(moved[12_400:]).max() < 0.4
    assert pitch(moved[3000:11_000], 12_000) == pytest.approx(105, rel=0.015)


@pytest.mark.parametrize("factor", [0.6, 1.5])
def test_every_period_keeps_its_pulse(factor):
    track = np.full(12_000, 150.0)
    audio = np.zeros(12_000, np.float32)
    audio[33::80] = 0.5
    moved = scale_pitch(audio, track, 12_000, factor)[1000:11_000]
    period = int(80 / factor) + 2
    peaks = [moved[start : start + period].max() for start in range(0, len(moved) - period, period)]
    assert min(peaks) > 0.45
    assert np.sum(moved > 0.45) == pytest.approx(10_000 / 80 * factor, rel=0.05)
