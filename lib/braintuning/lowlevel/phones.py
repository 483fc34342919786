"""How the 39 phones of American English are made by the mouth.

Each phone is described by the 22 features of spoken-story encoding models (de Heer, Huth, Griffiths, Gallant &
Theunissen 2017, Journal of Neuroscience 37:6539-6557): eight places, six manners, voicing, and the height and frontness
of vowels. Which features a phone has follows the chart of the International Phonetic Alphabet (Handbook of the
International Phonetic Association, 1999) with these conventions: W is bilabial and velar; R is an alveolar approximant;
a diphthong has the features of the vowel that it starts from and of the one that it ends on; the lax IH and UH lie
between the front or back and the centre and have both; ER, the vowel coloured by r, is also an approximant. No two
phones have the same features.
"""

import numpy as np

from braintuning.errors import InputError

FEATURES = (
    *("bilabial", "labiodental", "dental", "alveolar", "postalveolar", "palatal", "velar", "glottal"),
    *("plosive", "affricate", "fricative", "nasal", "lateral", "approximant"),
    *("voiced", "unvoiced"),
    *("low", "mid", "high"),
    *("front", "central", "back"),
)

_DESCRIPTIONS = {
    "P": "unvoiced bilabial plosive",
    "B": "voiced bilabial plosive",
    "T": "unvoiced alveolar plosive",
    "D": "voiced alveolar plosive",
    "K": "unvoiced velar plosive",
    "G": "voiced velar plosive",
    "CH": "unvoiced postalveolar affricate",
    "JH": "voiced postalveolar affricate",
    "F": "unvoiced labiodental fricative",
    "V": "voiced labiodental fricative",
    "TH": "unvoiced dental fricative",
    "DH": "voiced dental fricative",
    "S": "unvoiced alveolar fricative",
    "Z": "voiced alveolar fricative",
    "SH": "unvoiced postalveolar fricative",
    "ZH": "voiced postalveolar fricative",
    "HH": "unvoiced glottal fricative",
    "M": "voiced bilabial nasal",
    "N": "voiced alveolar nasal",
    "NG": "voiced velar nasal",
    "L": "voiced alveolar lateral approximant",
    "R": "voiced alveolar approximant",
    "W": "voiced bilabial velar approximant",
    "Y": "voiced palatal approximant",
    "IY": "voiced high front",
    "IH": "voiced high front central",
    "EH": "voiced mid front",
    "AE": "voiced low front",
    "AH": "voiced mid central",
    "ER": "voiced mid central approximant",
    "AA": "voiced low back",
    "AO": "voiced mid back",
    "UH": "voiced high central back",
    "UW": "voiced high back",
    "EY": "voiced mid high front",
    "AY": "voiced low high central front",
    "OY": "voiced mid high back front",
    "AW": "voiced low high central back",
    "OW": "voiced mid high back",
}

PHONES = tuple(_DESCRIPTIONS)
VOWEL_SYMBOLS = {
    **{"A": "EY", "I": "AY", "O": "OW", "W": "AW", "Y": "OY", "a": "AE", "æ": "AE", "ɑ": "AA", "ɒ": "AA", "ɔ": "AO"},
    **{"ə": "AH", "ɐ": "AH", "ʌ": "AH", "ᵊ": "AH", "ɜ": "ER", "ɛ": "EH", "e": "EH", "ɪ": "IH", "ᵻ": "IH", "i": "IY"},
    **{"o": "OW", "u": "UW", "y": "UW", "ʊ": "UH"},
}
CONSONANT_SYMBOLS = {
    **{"b": "B", "d": "D", "f": "F", "h": "HH", "j": "Y", "k": "K", "l": "L", "m": "M", "n": "N", "p": "P", "s": "S"},
    **{"t": "T", "v": "V", "w": "W", "z": "Z", "ð": "DH", "ŋ": "NG", "ɡ": "G", "ɹ": "R", "ɾ": "T", "T": "T", "ʔ": "T"},
    **{"ʃ": "SH", "ʒ": "ZH", "ʤ": "JH", "ʧ": "CH", "θ": "TH", "x": "K"},
}
"""Phones of the symbols in which misaki, the dictionary of the Kokoro and hibari voices, writes American English."""

_TABLE = {
    phone: np.array([feature in words.split() for feature in FEATURES], np.float32)
    for phone, words in _DESCRIPTIONS.items()
}


def without_stress(label: str) -> str:
    """Phone of a label in any case, with or without a stress digit: `ah0` becomes `AH`.

    Raises
    ------
    InputError
        If the label is none of the 39 phones in `PHONES`.
    """
    phone = label.strip().upper()
    phone = phone[:-1] if phone[-1:] in ("0", "1", "2") else phone
    if phone not in _TABLE:
        raise InputError(
            f"phone {label!r} is not one of the 39 ARPAbet phones of English ({', '.join(sorted(PHONES))})"
        )
    return phone


def articulation(label: str) -> np.ndarray:
    """Articulatory features of a phone.

    Parameters
    ----------
    label
        ARPAbet phone, in any case, with or without a stress digit.

    Returns
    -------
    numpy.ndarray
        `(22,)` float32 of zeros and ones, in the order of `FEATURES`.

    Raises
    ------
    InputError
        If the label is none of the 39 phones in `PHONES`.
    """
    return _TABLE[without_stress(label)].copy()
