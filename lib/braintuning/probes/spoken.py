"""Corpora that the project's voices speak, where a task's own corpus is not at hand: open, and in nobody's way.

Each is a folder of aligned speech (`corpora.aligned`) whose speakers, and prompts where it has them, are divided for
good: what tests was never trained on.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
import yaml

from braintuning.errors import InputError
from braintuning.files import CACHE, REPOSITORY, atomic_path
from braintuning.meaning import STORY_TEXTS, story_text
from braintuning.probes.corpora.speech_commands import WORDS
from braintuning.results import fingerprint
from braintuning.seeding import generator
from braintuning.speech import RATE, Voice, speak
from braintuning.timing import SAMPLE_RATE

VERSION = 2
VOICES_OF_PART = {"train": 9, "validation": 3, "test": 6}
COMMANDS = REPOSITORY / "data" / "commands.yaml"
PART_OF_PHRASING = ("train", "train", "validation", "test")
SENTENCES_A_VOICE, LONGEST_SENTENCE = 10, 16
PROSODY = {
    "plain": {},
    "fast": {"speed": 1.35},
    "slow": {"speed": 0.75},
    "high": {"pitch": 1.3},
    "low": {"pitch": 0.77},
    "loud": {"gain": 2.5},
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


@dataclass(frozen=True)
class Line:
    """Something to say: by whom, in which part, which prompt, with which label, how loud, and in noise or not."""

    voice: Voice
    part: str
    prompt: str
    text: str
    label: str | None = None
    gain: float = 1.0
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
    stories = generator(seed, "stories").permutation(sorted(path.stem for path in STORY_TEXTS.glob("*.txt"))).tolist()
    ends = {"train": stories[:8], "validation": stories[8:10], "test": stories[10:]}
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
    """Statements, questions and lists of like words, four each by every voice, in noise; each part has its prompts."""
    rng = generator(seed, "sentence types")
    for part, speakers in voices(seed).items():
        own = SUBJECTS[:4] if part == "train" else SUBJECTS[4:6] if part == "validation" else SUBJECTS[6:]
        for voice in speakers:
            for _ in range(4):
                who, what = own[rng.integers(len(own))], ACTIONS[rng.integers(len(ACTIONS))]
                verb, rest = what.split(" ", 1)
                things = rng.permutation(THINGS)[:4].tolist()
                for label, text in (
                    ("statement", f"{who} {verb} {rest}."),
                    ("question", f"is it true that {who} {verb} {rest}?"),
                    ("list", f"{who}, {', '.join(things[:3])} and {things[3]}."),
                ):
                    yield Line(voice, part, text, text, label, noisy=True)


def prosody(seed: int) -> Iterator[Line]:
    """Six ways of speaking the same sentences: rate, pitch and loudness; four sentences by every voice."""
    pool = [f"{who} {what}." for who in SUBJECTS for what in ACTIONS]
    order = generator(seed, "prosody").permutation(len(pool)).tolist()
    first = {"train": 0, "validation": 32, "test": 48}
    for part, speakers in voices(seed).items():
        for number, voice in enumerate(speakers):
            for place in range(4):
                text = pool[order[first[part] + (4 * number + place) % 16]]
                for label, change in PROSODY.items():
                    yield spoken_as(Line(voice, part, text, text, label), **change)


def spoken_as(line: Line, speed: float = 1.0, pitch: float = 1.0, gain: float = 1.0) -> Line:
    """The line by the same speaker, faster, higher or louder by these factors."""
    voice = replace(line.voice, speed=line.voice.speed * speed, pitch=line.voice.pitch * pitch)
    return replace(line, voice=voice, gain=gain)


def in_noise(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sound (samples,) with white noise as loud as it is, give or take 6 dB, and no louder together than before."""
    level = np.sqrt(np.mean(audio**2)) * 10 ** (rng.uniform(-6, 6) / 20)
    noisy = audio + level * rng.standard_normal(len(audio))
    return (noisy * np.sqrt(np.mean(audio**2) / np.mean(noisy**2))).astype(np.float32)


def commands(seed: int) -> Iterator[Line]:
    """Every intent once by every voice, in phrasings that belong to the voice's part."""
    phrasings = yaml.safe_load(COMMANDS.read_text(encoding="utf-8"))
    rng = generator(seed, "commands")
    for part, speakers in voices(seed).items():
        of_part = [k for k, p in enumerate(PART_OF_PHRASING) if p == part]
        for voice in speakers:
            for intent, said in phrasings.items():
                text = said[of_part[rng.integers(len(of_part))]]
                yield Line(voice, part, text, text, intent)


SPOKEN: dict[str, Callable[[int], Iterator[Line]]] = {
    "sentences": sentences,
    "words": words,
    "sentence types": sentence_types,
    "prosody": prosody,
    "commands": commands,
}


def spoken_corpus(name: str, seed: int = 0, cache: Path | None = None, report: Callable[[str], None] = print) -> Path:
    """Folder of a spoken corpus, made once and kept.

    Parameters
    ----------
    name : str
        One of `SPOKEN`.
    seed : int
        Of voices, sentences and sounds.
    cache : Path, optional
        By default `probes` in the project's cache.
    report : callable

    Raises
    ------
    InputError
        An unknown name.
    """
    if name not in SPOKEN:
        raise InputError(f"spoken corpus: found {name!r}, expected one of {', '.join(SPOKEN)}")
    lines = list(SPOKEN[name](seed))
    key = fingerprint([VERSION, seed, [(vars(line.voice), line.text, line.gain) for line in lines]])
    folder = (cache or CACHE / "probes") / f"{name.replace(' ', '_')}_{key}"
    if not folder.is_dir():
        report(f"speaking the corpus of {name}, {len(lines)} utterances")
        with atomic_path(folder) as temporary:
            temporary.mkdir(parents=True)
            _write(temporary, lines, seed)
    return folder


def _write(folder: Path, lines: Sequence[Line], seed: int) -> None:
    entries = []
    for number, line in enumerate(lines):
        speech = speak(line.text, line.voice, seed=int(generator(seed, "sound", number).integers(2**31)))
        file = f"{number:05d}.flac"
        audio = soxr.resample(speech.audio * line.gain, RATE, SAMPLE_RATE)
        if line.noisy:
            audio = in_noise(audio, generator(seed, "noise", number))
        soundfile.write(folder / file, audio.clip(-1, 1), SAMPLE_RATE)
        entry = {"file": file, "speaker": line.voice.name, "prompt": line.prompt, "part": line.part}
        entries.append({**entry, "label": line.label, "text": line.text, "phones": speech.phones})
    (folder / "alignments.jsonl").write_text("\n".join(map(json.dumps, entries)) + "\n", encoding="utf-8")
