"""Corpora that the project's voices speak, where a task's own corpus is not at hand: open, and in nobody's way.

Each is a folder of aligned speech (`corpora.aligned`) whose speakers, and prompts where it has them, are divided for
good: what tests was never trained on.
"""

import functools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import soxr
import yaml

from braintuning.demo.stories import STORY_TEXTS, story_text
from braintuning.demo.voices import RATE, Voice, speak
from braintuning.errors import InputError
from braintuning.lowlevel.phones import PHONE_OF_SYMBOL, pronounce, words_of
from braintuning.probes.corpora.speech_commands import WORDS
from braintuning.results import CACHE, REPOSITORY, atomic_path, fingerprint, generator
from braintuning.timing import SAMPLE_RATE

log = logging.getLogger(__name__)

VERSION = 3
VOICES_OF_PART = {"train": 9, "validation": 3, "test": 6}
COMMANDS = REPOSITORY / "data" / "commands.yaml"
PHRASINGS = {"train": slice(0, 5), "validation": slice(5, 6), "test": slice(6, 8)}
STORIES_UNHEARD = {"validation": ("bakery", "nightbus"), "test": ("theferry",)}
"""Stories whose sentences validate and test: none of them tunes a model of the project's studies, or stops its tuning,
and the small models were not pretrained on the one that tests. The others are to train on."""
LEVEL = 0.03
EFFORT_CORNERS = (250.0, 4000.0)
SENTENCES_A_VOICE, LONGEST_SENTENCE = 10, 16
PROSODY = {
    "plain": {},
    "fast": {"speed": 1.35},
    "slow": {"speed": 0.75},
    "high": {"pitch": 1.3},
    "low": {"pitch": 0.77},
    "raised": {"tilt": 6.0},
}
SUBJECTS = (
    "the baker, my neighbour, a sailor, her brother, the old teacher, our doctor, the driver, a young nurse".split(", ")
)
ACTIONS = (
    "sold the boat; found a letter; painted the door; lost the key; carried the basket; cooked some soup; opened the "
    "shop; mended the roof"
).split("; ")
THINGS = "apples, ropes, candles, bricks, spoons, blankets, pencils, onions, ribbons, lanterns, buttons, nails".split(
    ", "
)
CIRCUMSTANCES = (
    "", "by the river", "last night", "on monday morning", "after the storm", "in the old harbour", "before breakfast",
    "without a word to anybody",
)  # fmt: skip
COMMA_LENGTH = 1.6
CANDIDATES = 100


@dataclass(frozen=True)
class Line:
    """Something to say: by whom, in which part, which prompt, with which label, tilt in dB an octave, noise or not."""

    voice: Voice
    part: str
    prompt: str
    text: str
    label: str | None = None
    tilt: float = 0.0
    noisy: bool = False


def voices(seed: int = 0) -> dict[str, list[Voice]]:
    """Speakers of each part: vocal tracts from long to short, pitch that goes along with it, and their own pace."""
    rng, made = generator(seed, "probe voices"), {}
    total = sum(VOICES_OF_PART.values())
    places = rng.permutation(np.linspace(0, 1, total))
    drawn = [
        Voice(
            f"voice{number:02d}",
            speed=float(rng.uniform(0.9, 1.1)),
            pitch=float(0.58 * 2.4**place * np.exp(rng.normal(0, 0.06))),
            warp=float(0.86 + 0.3 * place + rng.normal(0, 0.015)),
        )
        for number, place in enumerate(places)
    ]
    for part, count in VOICES_OF_PART.items():
        made[part], drawn = drawn[:count], drawn[count:]
    return made


def sentences(seed: int) -> Iterator[Line]:
    """Sentences of the project's stories; each part reads stories of its own, each voice other sentences."""
    stories = sorted(path.stem for path in STORY_TEXTS.glob("*.txt"))
    unheard = [story for some in STORIES_UNHEARD.values() for story in some]
    ends = {"train": [story for story in stories if story not in unheard], **STORIES_UNHEARD}
    for part, readers in voices(seed).items():
        pool = [s for story in ends[part] for s in short_sentences(story_text(story))]
        order = generator(seed, "sentences", part).permutation(len(pool))
        for number, voice in enumerate(readers):
            for place in range(SENTENCES_A_VOICE):
                text = pool[order[(number * SENTENCES_A_VOICE + place) % len(pool)]]
                yield Line(voice, part, text, text)


def short_sentences(text: str) -> list[str]:
    """Sentences of a text with five words or more and not too many, so that an utterance lasts some seconds."""
    found = " ".join(text.split()).replace("!", ".").replace("?", ".").split(". ")
    return [f"{sentence.strip('. ')}." for sentence in found if 5 <= len(sentence.split()) <= LONGEST_SENTENCE]


def words(seed: int) -> Iterator[Line]:
    """The 35 words of Speech Commands, once by every voice, in noise: without it every model knows them all."""
    for part, speakers in voices(seed).items():
        for voice in speakers:
            for word in WORDS:
                yield Line(voice, part, word, word, word, noisy=True)


def sentence_types(seed: int) -> Iterator[Line]:
    """Statements, questions and lists of like words, four each by every voice, in noise; each part has its prompts.

    To each statement there is a question and a list that take as long to say, so that length does not tell them apart.
    """
    rng = generator(seed, "sentence types")
    subjects = {"train": SUBJECTS[:4], "validation": SUBJECTS[4:6], "test": SUBJECTS[6:]}
    for part, speakers in voices(seed).items():
        own = subjects[part]
        for voice in speakers:
            for _ in range(4):
                statement = next(_statements(own, CIRCUMSTANCES[1:], rng))
                questions = (f"is it true that {asked}?" for asked in _statements(own, CIRCUMSTANCES, rng))
                said = {
                    "statement": f"{statement}.",
                    "question": _as_long(statement, questions),
                    "list": _as_long(statement, _lists(own, rng)),
                }
                for label, text in said.items():
                    yield Line(voice, part, text, text, label, noisy=True)


def _statements(subjects: Sequence[str], circumstances: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    while True:
        some = (subjects, ACTIONS, circumstances)
        yield " ".join(words[rng.integers(len(words))] for words in some).strip()


def _lists(subjects: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    while True:
        *things, last = rng.permutation(THINGS)[: rng.integers(2, 5)].tolist()
        yield f"{subjects[rng.integers(len(subjects))]}, {', '.join(things)} and {last}."


def _as_long(text: str, others: Iterator[str]) -> str:
    """The one of some candidates that takes most nearly as long to say as a text."""
    length = spoken_length(text)
    return min(islice(others, CANDIDATES), key=lambda other: abs(spoken_length(other) - length))


def spoken_length(text: str) -> float:
    """About how long a text takes to say, in phones: a comma takes 80 ms more than the 50 ms of a phone (measured)."""
    return sum(_n_phones(word) for word in words_of(text)) + COMMA_LENGTH * text.count(",")


@functools.cache
def _n_phones(word: str) -> int:
    return sum(symbol in PHONE_OF_SYMBOL for symbol, _ in pronounce(word)[0])


def prosody(seed: int) -> Iterator[Line]:
    """Six ways of speaking the same sentences: rate, pitch and effort; four sentences by every voice."""
    pool = [f"{who} {what} {how}".strip() + "." for who in SUBJECTS for what in ACTIONS for how in CIRCUMSTANCES]
    order = generator(seed, "prosody").permutation(len(pool)).tolist()
    first = {"train": 0, "validation": 36, "test": 48}
    for part, speakers in voices(seed).items():
        for number, voice in enumerate(speakers):
            for place in range(4):
                text = pool[order[first[part] + 4 * number + place]]
                for label, change in PROSODY.items():
                    yield spoken_as(Line(voice, part, text, text, label), **change)


def spoken_as(line: Line, speed: float = 1.0, pitch: float = 1.0, tilt: float = 0.0) -> Line:
    """The line by the same speaker, faster or higher by these factors, or with more effort."""
    voice = replace(line.voice, speed=line.voice.speed * speed, pitch=line.voice.pitch * pitch)
    return replace(line, voice=voice, tilt=tilt)


def tilted(audio: np.ndarray, decibels: float) -> np.ndarray:
    """Sound (samples,) whose spectrum rises by so many decibels an octave more, from 250 Hz to 4 kHz.

    A raised voice differs from a calm one in the balance of its spectrum, also where both are equally loud (Sluijter &
    van Heuven 1996, Journal of the Acoustical Society of America 100:2471-2485).
    """
    spectrum = np.fft.rfft(audio)
    octaves = np.log2(np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE).clip(*EFFORT_CORNERS) / EFFORT_CORNERS[0])
    return np.fft.irfft(spectrum * 10 ** (decibels * octaves / 20), len(audio))


def levelled(audio: np.ndarray) -> np.ndarray:
    """Sound (samples,) float32 of one root mean square, `LEVEL`: low enough that no peak of speech is cut off."""
    return (audio * (LEVEL / np.sqrt(np.mean(audio**2)))).astype(np.float32)


def in_noise(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sound (samples,) with white noise as loud as it is, give or take 6 dB."""
    level = np.sqrt(np.mean(audio**2)) * 10 ** (rng.uniform(-6, 6) / 20)
    return audio + level * rng.standard_normal(len(audio))


def commands(seed: int) -> Iterator[Line]:
    """Every intent once by every voice, in phrasings that belong to the voice's part."""
    phrasings = yaml.safe_load(COMMANDS.read_text(encoding="utf-8"))
    rng = generator(seed, "commands")
    for part, speakers in voices(seed).items():
        for voice in speakers:
            for intent, every in phrasings.items():
                said = every[PHRASINGS[part]]
                text = said[rng.integers(len(said))]
                yield Line(voice, part, text, text, intent)


SPOKEN: dict[str, Callable[[int], Iterator[Line]]] = {
    "sentences": sentences,
    "words": words,
    "sentence types": sentence_types,
    "prosody": prosody,
    "commands": commands,
}


def spoken_corpus(name: str, seed: int = 0, cache: Path | None = None) -> Path:
    """Folder of a spoken corpus, made once and kept.

    Parameters
    ----------
    name : str
        One of `SPOKEN`.
    seed : int
        Of voices, sentences and sounds.
    cache : Path, optional
        By default `probes` in the project's cache.

    Raises
    ------
    InputError
        An unknown name.
    """
    if name not in SPOKEN:
        raise InputError(f"spoken corpus: found {name!r}, expected one of {', '.join(SPOKEN)}")
    lines = list(SPOKEN[name](seed))
    key = fingerprint([VERSION, seed, [asdict(line) for line in lines]])
    folder = (cache or CACHE / "probes") / f"{name.replace(' ', '_')}_{key}"
    if not folder.is_dir():
        log.info(f"speaking the corpus of {name}, {len(lines)} utterances")
        with atomic_path(folder) as temporary:
            temporary.mkdir(parents=True)
            _write(temporary, lines, seed)
    return folder


def _write(folder: Path, lines: Sequence[Line], seed: int) -> None:
    entries = []
    for number, line in enumerate(lines):
        speech = speak(line.text, line.voice, seed=int(generator(seed, "sound", number).integers(2**31)))
        file = f"{number:05d}.flac"
        audio = tilted(soxr.resample(speech.audio, RATE, SAMPLE_RATE), line.tilt)
        if line.noisy:
            audio = in_noise(audio, generator(seed, "noise", number))
        soundfile.write(folder / file, levelled(audio), SAMPLE_RATE)
        entry = {"file": file, "speaker": line.voice.name, "prompt": line.prompt, "part": line.part}
        entries.append({**entry, "label": line.label, "text": line.text, "phones": speech.phones})
    (folder / "alignments.jsonl").write_text("\n".join(map(json.dumps, entries)) + "\n", encoding="utf-8")
