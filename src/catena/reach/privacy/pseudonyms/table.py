"""The stand-ins of one conversation: put in before a request leaves, taken out of what comes back; in memory only."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable

from catena.core.errors import RefusedError
from catena.reach.privacy.kinds import KINDS
from catena.reach.privacy.pseudonyms.stand_ins import GIVEN_ZH, SURNAMES_ZH, Draw, stand_in
from catena.reach.privacy.spans import Span

MAX_TRIES = 64
MAX_STAND_INS = 2000
# Characters that tell whether a word begins after them: one, or an escape of JSON.
CONTEXT = 6
# Kinds whose text no other text can stand for.
FIXED = frozenset({"credential", "health", "attribute"})
TITLES_ZH = (
    "先生",
    "女士",
    "小姐",
    "太太",
    "总",
    "经理",
    "医生",
    "大夫",
    "老师",
    "同学",
    "同志",
    "主任",
    "教授",
    "律师",
)
_HAN = re.compile(r"[\u3400-\u9fff]")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SYLLABLES = (
    "bel",
    "cor",
    "dan",
    "fen",
    "gar",
    "hol",
    "jas",
    "kel",
    "lor",
    "mar",
    "nel",
    "per",
    "quin",
    "ros",
    "tal",
    "wen",
)


class Unsafe(RefusedError):
    """A stand-in could not be turned back for sure, so the turn stays here."""


class Pseudonyms:
    """Stand-ins drawn from `secret`, a key of one conversation, so that they are the same at every turn of it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._forward: dict[tuple[str, str], str] = {}
        self._words: dict[str, str] = {}
        self.backward: dict[str, str] = {}
        self._restoring: re.Pattern[str] | None = None

    def learn(self, text: str, spans: Iterable[Span], taken: str) -> None:
        """Give every span of `text` a stand-in that is not in `taken`, all the text of the request. Raises Unsafe."""
        for span in spans:
            if KINDS[span.type].group in FIXED:
                raise Unsafe(f"no other text can stand for a {KINDS[span.type].english}")
            self._learned(span.type, text[span.start : span.end], taken)

    def replace(self, text: str, spans: Iterable[Span]) -> str:
        """`text` with a stand-in for each of its spans, and for everything learned elsewhere that is in it."""
        out: list[str] = []
        place = 0
        for span in spans:
            out += self._elsewhere(text[place : span.start]), self._forward[span.type, text[span.start : span.end]]
            place = span.end
        return "".join(out) + self._elsewhere(text[place:])

    def replace_json(self, text: str, spans: list[Span]) -> str:
        """As `replace`, for JSON text, which stays JSON. Raises Unsafe where that is not sure."""
        if any("\\" in text[span.start : span.end] for span in spans):
            raise Unsafe("a private text in the arguments of a tool is written with escapes")
        changed = self.replace(text, spans)
        try:
            json.loads(text)
        except ValueError:
            return changed  # it was none before
        try:
            json.loads(changed)
        except ValueError as error:
            raise Unsafe("the arguments of a tool would not be JSON any more") from error
        return changed

    def leaks(self, text: str) -> bool:
        """Whether anything that has a stand-in is in `text` as it was."""
        return self._elsewhere(text) != text

    def restore(self, text: str) -> str:
        """`text` with every stand-in turned back."""
        pattern = self.pattern()
        return text if pattern is None else pattern.sub(lambda found: self.backward[found[0]], text)

    def pattern(self) -> re.Pattern[str] | None:
        """Finds stand-ins, the longest first; of Latin letters only whole words."""
        if self._restoring is None and self.backward:
            self._restoring = _finding(self.backward)
        return self._restoring

    def _elsewhere(self, text: str) -> str:
        if not text or not self._forward:
            return text
        known = {original: other for (_, original), other in self._forward.items() if _is_telling(original)}
        pattern = _finding(known) if known else None
        return text if pattern is None else pattern.sub(lambda found: known[found[0]], text)

    def _learned(self, kind: str, original: str, taken: str) -> None:
        if (kind, original) in self._forward:
            return
        if len(self._forward) >= MAX_STAND_INS:
            raise Unsafe(f"a conversation has at most {MAX_STAND_INS} stand-ins")
        for other_kind in KINDS:  # one text, one stand-in, whatever it was taken for
            if found := self._forward.get((other_kind, original)):
                self._forward[kind, original] = found
                return
        for number in range(MAX_TRIES):
            made = self._made(kind, original, number)
            if self._is_free(made, original, taken):
                break
        else:
            raise Unsafe(f"no stand-in for a {KINDS[kind].english} could be found that is not in the text")
        self._forward[kind, original] = made
        self._back(made, original)
        if kind == "person":
            self._name_parts(made, original)

    def _made(self, kind: str, original: str, number: int) -> str:
        draw = self._draw(kind, original.casefold(), number)
        made = stand_in(kind, original, draw)
        if kind != "person":
            return made
        if _HAN.search(original):
            return self._characters(original, made, number)
        # Word by word, so that a family name alone has the stand-in that it has in the full name.
        parts, others = _WORD.findall(original), _WORD.findall(made)
        if len(parts) != len(others):
            return made
        words = iter([self._word(part, other, number) for part, other in zip(parts, others, strict=True)])
        return _WORD.sub(lambda _: next(words), made)

    def _word(self, word: str, other: str, number: int) -> str:
        known = self._words.get(word.casefold())
        if known is None:
            if number > 2 or any(other.casefold() == used.casefold() for used in self._words.values()):
                draw = self._draw("word", word.casefold(), number)
                other = "".join(_SYLLABLES[draw(len(_SYLLABLES))] for _ in range(3)).capitalize()
            return other
        return known.upper() if word.isupper() and len(word) > 1 else known.lower() if word.islower() else known

    def _characters(self, original: str, made: str, number: int) -> str:
        if number > 2:
            draw = self._draw("characters", original, number)
            made = "".join(
                letter
                if not _HAN.match(letter)
                else GIVEN_ZH[draw(len(GIVEN_ZH))]
                if place
                else SURNAMES_ZH[draw(len(SURNAMES_ZH))]
                for place, letter in enumerate(original)
            )
        known = "".join(self._words.get(letter, other) for letter, other in zip(original, made, strict=True))
        return known if len(set(original)) > 1 or number == 0 else made

    def _name_parts(self, made: str, original: str) -> None:
        """A part of a name alone is turned back too: a Latin word, a Chinese given name, a surname with a title."""
        if _HAN.search(original):
            for letter, other in zip(original, made, strict=True):
                self._words.setdefault(letter, other)
            if len(original) >= 3:
                self._back(made[1:], original[1:])
            for title in TITLES_ZH:
                self._back(made[0] + title, original[0] + title)
            return
        parts, others = _WORD.findall(original), _WORD.findall(made)
        for part, other in zip(parts, others, strict=False):
            self._words.setdefault(part.casefold(), other)
            if len(part) > 1 and len(other) > 2:
                self._back(other, part)

    def _back(self, made: str, original: str) -> None:
        self.backward.setdefault(made, original)
        if _HAN.search(made) is None and made != made.upper():
            self.backward.setdefault(made.upper(), original.upper())
            self.backward.setdefault(made.lower(), original.lower())
        self._restoring = None

    def _is_free(self, made: str, original: str, taken: str) -> bool:
        if self.backward.get(made) == original:
            return made.casefold() not in taken.casefold()
        if made.casefold() == original.casefold() or made in self.backward or made.casefold() in taken.casefold():
            return False
        return all(made not in other and other not in made for other in self._forward.values())

    def _draw(self, *about: object) -> Draw:
        seed = hmac.digest(self._secret, "\0".join(map(str, about)).encode(), "sha256")
        counter = 0

        def draw(bound: int) -> int:
            nonlocal counter
            counter += 1
            return int.from_bytes(hmac.digest(seed, counter.to_bytes(4, "big"), "sha256")[:8], "big") % bound

        return draw


class Restorer:
    """Turns stand-ins back in a stream: what may be the beginning of one waits for what follows it.

    With `is_json`, what comes is JSON text, in which a stand-in may be written with escapes.
    """

    def __init__(self, pseudonyms: Pseudonyms, *, is_json: bool = False) -> None:
        self._known = _for_json(pseudonyms.backward) if is_json else pseudonyms.backward
        self._pattern = _finding(self._known, is_json=is_json) if self._known else None
        self._prefixes = {name[:size] for name in self._known for size in range(1, len(name) + 1)}
        self._longest = max(map(len, self._known), default=0)
        self._waiting = ""
        self._before = " " * CONTEXT

    def feed(self, text: str) -> str:
        """More of the stream; what of it is certain by now."""
        if self._pattern is None:
            return text
        self._waiting += text
        held = next(
            (
                size
                for size in range(min(self._longest, len(self._waiting)), 0, -1)
                if self._waiting[-size:] in self._prefixes
            ),
            0,
        )
        return self._give(len(self._waiting) - held)

    def end(self) -> str:
        """The rest, when the stream is over."""
        return self._give(len(self._waiting))

    def _give(self, size: int) -> str:
        if not size or self._pattern is None:
            return ""
        # What is before tells whether a word begins here, what is behind whether it ends.
        text = self._before + self._waiting
        out: list[str] = []
        place = CONTEXT
        for found in self._pattern.finditer(text, CONTEXT):
            if found.start() >= size + CONTEXT:
                break
            out += text[place : found.start()], self._known[found[0]]
            place = found.end()
        end = max(place, size + CONTEXT)
        out.append(text[place:end])
        self._before, self._waiting = text[end - CONTEXT : end], text[end:]
        return "".join(out)


def _is_telling(original: str) -> bool:
    """Whether a text is found again by its letters alone; a number of two digits is not."""
    return len(original) >= (2 if _HAN.search(original) else 5)


def _finding(known: Iterable[str], *, is_json: bool = False) -> re.Pattern[str]:
    """Finds any of `known`, the longest first; one of Latin letters or digits only as whole words."""
    begins = r"(?:(?<![0-9A-Za-z])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))" if is_json else "(?<![0-9A-Za-z])"
    pieces = [
        (begins if name[0].isascii() and name[0].isalnum() else "")
        + re.escape(name)
        + ("(?![0-9A-Za-z])" if name[-1].isascii() and name[-1].isalnum() and "\\u" not in name else "")
        for name in sorted(known, key=len, reverse=True)
    ]
    return re.compile("|".join(pieces))


def _for_json(known: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for made, original in known.items():
        plain = json.dumps(original, ensure_ascii=False)[1:-1]
        found[made] = plain
        escaped = json.dumps(made)[1:-1]
        if escaped != made:
            found[escaped] = plain
            found[re.sub(r"\\u[0-9a-f]{4}", lambda one: "\\u" + one[0][2:].upper(), escaped)] = plain
    return found
