"""Texts on which tokenizers go wrong, drawn by a seed or by hypothesis."""

import random

from hypothesis import strategies as st

# All that `\s` matches, as the Unicode Standard lists White_Space.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
# White space to Python's str.isspace, or to nobody.
NEARLY_SPACE = "\x1c\x1d\x1e\x1f\u180e\u200b\u2060\ufeff"
APOSTROPHES = "''''''\u2018\u2019\u02bc\uff07`\u2032\u05f3"
CONTRACTIONS = ["s", "t", "re", "ve", "m", "ll", "d", "S", "T", "RE", "Ve", "M", "lL", "D"]
DIGITS = "059٣۴५৬๗᠘²½Ⅷ①〇三๙𝟘𞥐৴፼"
EMOJI = [
    "👍",
    "👍🏽",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🇫🇷",
    "🇫",
    "1️⃣",
    "#️⃣",
    "❤️",
    "\u200d",
    "\ufe0f",
    "🏴\U000e0067\U000e007f",
]
WORDS = [
    "Hello",
    "the",
    "don",
    "I",
    "naïve",
    "ﬁ",
    "ẞ",
    "İ",
    "詩",
    "世界你好",
    "ひらがな",
    "한국어",
    "हिन्दी",
]
WORDS += [
    "العَرَبِيَّة",
    "ไทยแลนด์",
    "עִבְרִית",
    "Ελλάδα",
    "Привет",
    "க்ஷ",
    "<|endoftext|>",
    "http://a.b/c?d=e",
]
MARKS = "\u0301\u0308\u20dd\u0e34\u093f\u064b\u3099\ufe0f\U000e0100"
PUNCTUATION = '!?.,;:-_()[]{}"#$%&*+/<=>@\\^|~。，、«»…—€©\u00ad\x00\x01\x7f\x80\x9f'
# Where to draw single characters from: ASCII, scripts with marks, jamo, symbols, planes 1 to 16.
RANGES = [
    (0, 0x80),
    (0x80, 0x250),
    (0x300, 0x370),
    (0x590, 0x700),
    (0x900, 0xE80),
    (0x1100, 0x1200),
]
RANGES += [(0x2000, 0x2C00), (0x3000, 0xA000), (0xA000, 0xD800), (0xE000, 0x10000)]
RANGES += [(0x10000, 0x20000), (0x1F000, 0x1FB00), (0x20000, 0x40000), (0xE0000, 0x110000)]

PARTS = [
    *WHITE_SPACE,
    *NEARLY_SPACE,
    *APOSTROPHES,
    *CONTRACTIONS,
    *DIGITS,
    *EMOJI,
    *WORDS,
    *MARKS,
    *PUNCTUATION,
    *(f"'{ending}" for ending in CONTRACTIONS),
    *(f" {word}" for word in WORDS),
]


def draw(number: int, seed: int) -> list[str]:
    """Texts of up to 12 parts, some of them runs of up to 40."""
    random_ = random.Random(seed)

    def part() -> str:
        kind = random_.random()
        if kind < 0.7:
            return random_.choice(PARTS)
        if kind < 0.8:
            return random_.choice(PARTS) * random_.randint(2, 40)
        return chr(random_.randrange(*random_.choice(RANGES)))

    return ["".join(part() for _ in range(random_.randint(0, 12))) for _ in range(number)]


def texts() -> st.SearchStrategy[str]:
    """The same for hypothesis, which looks for texts that others would not think of."""
    characters = st.characters(exclude_categories=["Cs"])
    runs = st.tuples(st.sampled_from(PARTS), st.integers(2, 40)).map(lambda run: run[0] * run[1])
    return st.lists(st.one_of(st.sampled_from(PARTS), characters, runs), max_size=12).map("".join)
