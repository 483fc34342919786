"""Synthesised stand-ins for the corpora of the downstream tasks.

Each is a folder of aligned speech (`probes.corpora.aligned`) whose parts share no speaker and, but for single words, no
prompt.
"""

import functools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice, product
from pathlib import Path

import numpy as np
import soundfile
import soxr
import yaml
from filelock import FileLock

from braintuning.demo.stories import STORY_TEXTS, story_text
from braintuning.demo.voices import RATE, Voice, speak
from braintuning.lowlevel.phones import PHONE_OF_SYMBOL, pronounce, words_of
from braintuning.probes.corpora.speech_commands import WORDS
from braintuning.results import CACHE, REPOSITORY, atomic_path, fingerprint, generator
from braintuning.timing import SAMPLE_RATE

log = logging.getLogger(__name__)

VERSION = 3
SPEAKERS_OF_PART = {"train": 9, "validation": 3, "test": 6}
SENTENCES = REPOSITORY / "data" / "sentences.yaml"
COMMANDS = REPOSITORY / "data" / "commands.yaml"
PHRASINGS = {"train": slice(0, 5), "validation": slice(5, 6), "test": slice(6, 8)}
HELD_OUT_STORIES = {"validation": ("bakery", "nightbus"), "test": ("theferry",)}
"""Stories of the validation and test sentences; the others are for training. No study with downstream tasks tunes a
model on these stories or stops its tuning by them, and the small models were not pretrained on the test story."""
LEVEL = 0.03
EFFORT_CORNERS = (250.0, 4000.0)
SENTENCES_PER_SPEAKER, LONGEST_SENTENCE = 10, 16
PROSODY = {
    "plain": {},
    "fast": {"speed": 1.35},
    "slow": {"speed": 0.75},
    "high": {"pitch": 1.3},
    "low": {"pitch": 0.77},
    "raised": {"tilt": 6.0},
}
COMMA_LENGTH = 1.6
CANDIDATES = 100


@dataclass(frozen=True)
class Line:
    """An utterance to synthesise; `tilt` is in dB per octave (`tilted`)."""

    voice: Voice
    part: str
    prompt: str
    text: str
    label: str | None = None
    tilt: float = 0.0
    noisy: bool = False


def speakers(seed: int = 0) -> list[tuple[str, Voice]]:
    """Part and voice of each speaker: vocal tracts of many lengths, with matching pitch and individual speed."""
    rng, parts = generator(seed, "probe voices"), [part for part, n in SPEAKERS_OF_PART.items() for _ in range(n)]
    voices = [
        Voice(
            f"voice{number:02d}",
            speed=float(rng.uniform(0.9, 1.1)),
            pitch=float(0.58 * 2.4**place * np.exp(rng.normal(0, 0.06))),
            warp=float(0.86 + 0.3 * place + rng.normal(0, 0.015)),
        )
        for number, place in enumerate(rng.permutation(np.linspace(0, 1, len(parts))))
    ]
    return list(zip(parts, voices, strict=True))


def sentences(seed: int) -> Iterator[Line]:
    """Sentences of the project's stories; each part has its own stories, each speaker other sentences."""
    stories = sorted(path.stem for path in STORY_TEXTS.glob("*.txt"))
    held_out = {story for some in HELD_OUT_STORIES.values() for story in some}
    texts = {}
    for part, names in {"train": [name for name in stories if name not in held_out], **HELD_OUT_STORIES}.items():
        pool = [sentence for name in names for sentence in _short_sentences(story_text(name))]
        texts[part] = cycle([pool[i] for i in generator(seed, "sentences", part).permutation(len(pool))])
    for part, voice in speakers(seed):
        for text in islice(texts[part], SENTENCES_PER_SPEAKER):
            yield Line(voice, part, text, text)


def _short_sentences(text: str) -> list[str]:
    """Sentences of 5 to `LONGEST_SENTENCE` words, which take some seconds to say."""
    found = " ".join(text.split()).replace("!", ".").replace("?", ".").split(". ")
    return [f"{sentence.strip('. ')}." for sentence in found if 5 <= len(sentence.split()) <= LONGEST_SENTENCE]


def words(seed: int) -> Iterator[Line]:
    """The 35 words of Speech Commands, once by every speaker; in noise, since every model knows them all without it."""
    for (part, voice), word in product(speakers(seed), WORDS):
        yield Line(voice, part, word, word, word, noisy=True)


def sentence_types(seed: int) -> Iterator[Line]:
    """Statements, questions and lists in noise, four each by every speaker.

    Each statement has a question and a list that take as long to say, so that duration does not tell them apart.
    """
    rng, known = generator(seed, "sentence types"), yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))
    subjects, actions, circumstances = known["subjects"], known["actions"], known["circumstances"]
    subjects_of = {"train": subjects[:4], "validation": subjects[4:6], "test": subjects[6:]}
    for (part, voice), _ in product(speakers(seed), range(4)):
        own = subjects_of[part]
        statement = next(_statements(rng, own, actions, circumstances[1:]))
        questions = (f"is it true that {asked}?" for asked in _statements(rng, own, actions, circumstances))
        question = _as_long(statement, questions)
        listed = _as_long(statement, _lists(rng, own, known["things"]))
        for label, text in (("statement", f"{statement}."), ("question", question), ("list", listed)):
            yield Line(voice, part, text, text, label, noisy=True)


def _statements(rng: np.random.Generator, *phrases: Sequence[str]) -> Iterator[str]:
    while True:
        yield " ".join(some[rng.integers(len(some))] for some in phrases).strip()


def _lists(rng: np.random.Generator, subjects: Sequence[str], things: Sequence[str]) -> Iterator[str]:
    while True:
        *first, last = rng.permutation(things)[: rng.integers(2, 5)].tolist()
        yield f"{subjects[rng.integers(len(subjects))]}, {', '.join(first)} and {last}."


def _as_long(text: str, others: Iterator[str]) -> str:
    """Of `CANDIDATES` others the one whose spoken length is closest to that of the text."""
    length = spoken_length(text)
    return min(islice(others, CANDIDATES), key=lambda other: abs(spoken_length(other) - length))


def spoken_length(text: str) -> float:
    """Approximate duration of a text in phones of 50 ms; a comma adds 80 ms (measured)."""
    return sum(_n_phones(word) for word in words_of(text)) + COMMA_LENGTH * text.count(",")


@functools.cache
def _n_phones(word: str) -> int:
    return sum(symbol in PHONE_OF_SYMBOL for symbol, _ in pronounce(word)[0])


def prosody(seed: int) -> Iterator[Line]:
    """Six ways of speaking (rate, pitch, vocal effort), each for the same four sentences of a speaker."""
    known = yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))
    phrases = product(known["subjects"], known["actions"], known["circumstances"])
    pool = [f"{' '.join(some).strip()}." for some in phrases]
    texts = (pool[i] for i in generator(seed, "prosody").permutation(len(pool)))
    for part, voice in speakers(seed):
        for text, (label, change) in product(islice(texts, 4), PROSODY.items()):
            scaled = {name: getattr(voice, name) * change.get(name, 1.0) for name in ("speed", "pitch")}
            yield Line(replace(voice, **scaled), part, text, text, label, change.get("tilt", 0.0))


def commands(seed: int) -> Iterator[Line]:
    """Every intent once by every speaker, in phrasings that belong to the speaker's part."""
    phrasings = yaml.safe_load(COMMANDS.read_text(encoding="utf-8"))
    rng = generator(seed, "commands")
    for (part, voice), (intent, every) in product(speakers(seed), phrasings.items()):
        own = every[PHRASINGS[part]]
        text = own[rng.integers(len(own))]
        yield Line(voice, part, text, text, intent)


STAND_INS: dict[str, Callable[[int], Iterator[Line]]] = {
    "sentences": sentences,
    "words": words,
    "sentence types": sentence_types,
    "prosody": prosody,
    "commands": commands,
}


def tilted(audio: np.ndarray, decibels: float) -> np.ndarray:
    """Audio (samples,) with a spectral tilt of so many decibels per octave from 250 Hz to 4 kHz.

    A raised voice differs from a calm one in spectral balance, even at equal loudness (Sluijter & van Heuven 1996,
    Journal of the Acoustical Society of America 100:2471-2485).
    """
    spectrum = np.fft.rfft(audio)
    octaves = np.log2(np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE).clip(*EFFORT_CORNERS) / EFFORT_CORNERS[0])
    return np.fft.irfft(spectrum * 10 ** (decibels * octaves / 20), len(audio))


def levelled(audio: np.ndarray) -> np.ndarray:
    """Audio (samples,) float32 scaled to the root mean square `LEVEL`, low enough for speech never to clip."""
    return (audio * (LEVEL / np.sqrt(np.mean(audio**2)))).astype(np.float32)


def in_noise(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Audio (samples,) with white noise at a signal-to-noise ratio between -6 and 6 dB."""
    level = np.sqrt(np.mean(audio**2)) * 10 ** (rng.uniform(-6, 6) / 20)
    return audio + level * rng.standard_normal(len(audio))


def stand_in_corpus(name: str, seed: int = 0) -> Path:
    """Folder of one of `STAND_INS`, synthesised once, by one process, and kept in the project's cache.

    `seed` draws speakers, sentences and audio.
    """
    lines = list(STAND_INS[name](seed))
    key = fingerprint([VERSION, seed, [asdict(line) for line in lines]])
    folder = CACHE / "probes" / f"{name.replace(' ', '_')}_{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".lock-{folder.name}")):
        if not folder.is_dir():
            log.info(f"synthesising the stand-in corpus {name!r}, {len(lines)} utterances")
            with atomic_path(folder) as temporary:
                temporary.mkdir(parents=True)
                entries = [_write(temporary, number, line, seed) for number, line in enumerate(lines)]
                text = "\n".join(map(json.dumps, entries)) + "\n"
                (temporary / "alignments.jsonl").write_text(text, encoding="utf-8")
    return folder


def _write(folder: Path, number: int, line: Line, seed: int) -> dict:
    speech = speak(line.text, line.voice, seed=int(generator(seed, "sound", number).integers(2**31)))
    audio = tilted(soxr.resample(speech.audio, RATE, SAMPLE_RATE), line.tilt)
    if line.noisy:
        audio = in_noise(audio, generator(seed, "noise", number))
    file = f"{number:05d}.flac"
    soundfile.write(folder / file, levelled(audio), SAMPLE_RATE)
    known = {"file": file, "speaker": line.voice.name, "prompt": line.prompt, "part": line.part}
    return {**known, "label": line.label, "text": line.text, "phones": speech.phones}
