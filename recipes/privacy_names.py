"""Trains the tagger of names and writes what ships: `python recipes/privacy_names.py CENSUS PROSE [--report]`.

CENSUS holds the US Census Bureau's 1990 files dist.all.last, dist.male.first and dist.female.first, as the MIT
package `names` 0.3.0 carries them. PROSE holds texts in the public domain, one paragraph a line: the 1911
Encyclopaedia Britannica, the World Factbook, the 18F handbook (CC0), books of Project Gutenberg; none of it ships.
Multinomial logistic regression over binary features with L2 decay, fitted by AdaGrad (Duchi, Hazan, Singer 2011) on
texts that we generate; the label before a word is the model's own half the time from the second pass on, so that it
learns to go on after its own mistakes. Seeded.
"""

from __future__ import annotations

import argparse
import base64
import collections
import gzip
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from privacy_names_fillers import Fillers, documents
from privacy_names_lexicon import make, prose
from privacy_names_templates import FAMILIES

from catena.reach.privacy.judging import tagger as judge
from catena.reach.privacy.judging.words import Words

DATA = Path(__file__).parent.parent / "src/catena/reach/privacy/data"
SEEN, UNSEEN = frozenset(range(8)), frozenset({8, 9})
Document = tuple[str, list[tuple[int, int, str]], str]
STEP, LEAST = 0.05, 0.3
# Marks a text whose people are unknown: what may be one teaches neither way. It separates words like a blank.
PROSE = "\u2030 "
NUMBER = {label: place for place, label in enumerate(judge.LABELS)}


def is_name(words: Words, index: int) -> bool:
    """Whether real prose may well name a person here: a first name before a last name, or a name after an honorific."""
    classes, shapes = words.classes, words.shapes
    if shapes[index] not in ("Xx", "X", "XxX"):
        return False
    here, before, after = classes[index], classes[index - 1], classes[index + 1]
    if "h" in before and index:
        return True
    is_first = "f" in here or shapes[index] == "X"
    is_last = "l" in here and "c" not in here
    follows = (
        shapes[index + 1] in ("Xx", "X", "XxX") and ("l" in after or shapes[index + 1] == "X") and "c" not in after
    )
    led = index > 0 and shapes[index - 1] in ("Xx", "X") and ("f" in before or shapes[index - 1] == "X")
    return (is_first and follows) or (is_last and led)


def gold(words: Words, spans: list[tuple[int, int, str]]) -> list[str]:
    """The label of every word."""
    labels = ["O"] * len(words.words)
    if not spans and words.text.startswith(PROSE):
        return ["?" if is_name(words, index) else "O" for index in range(len(labels))]
    for start, end, kind in spans:
        is_first = True
        for index in range(len(labels)):
            if words.starts[index] >= start and words.ends[index] <= end:
                labels[index] = ("B-" if is_first else "I-") + kind
                is_first = False
    return labels


def train(made: list[Document], lexicon: dict[str, str], passes: int = 4, seed: int = 5) -> dict[str, list[int]]:
    """Weights in thousandths by feature."""
    rng = random.Random(seed)
    prepared: list[tuple[Words, list[str]]] = []
    counts: collections.Counter[str] = collections.Counter()
    for text, spans, _ in made:
        words = Words(text, lexicon)
        labels = gold(words, spans)
        # A name of the gazetteer is not always one of it: unseen names must be found by what surrounds them.
        for index, label in enumerate(labels):
            if (
                label[2:] in ("PER", "ORG")
                and words.classes[index]
                and "c" not in words.classes[index]
                and rng.random() < 0.3
            ):
                words.classes[index] = ""
                words.context[index] = words.shapes[index]
        prepared.append((words, labels))
        for feature in walk(words, labels):
            counts.update(feature[1])
    ids = {name: place for place, name in enumerate(name for name, count in counts.items() if count >= 4)}
    print(f"{len(made):,} texts, {len(ids):,} features of {len(counts):,}")
    weights = np.zeros((len(ids) + 1, len(NUMBER)), np.float32)
    squares = np.full_like(weights, 1e-3)
    order = list(range(len(prepared)))
    for turn in range(passes):
        rng.shuffle(order)
        loss = total = 0.0
        for place in order:
            words, labels = prepared[place]
            before, last, key, at = "O", -2, "", -1
            for index in judge.candidates(words):
                if index != last + 1:
                    before = "O"
                if before == "O" and words.lower[index] in judge.LINKS and words.shapes[index] == "x":
                    continue
                key, at = judge.key_of(words, index, key, at)
                rows = np.array([ids[name] for name in judge.features(words, index, before, key) if name in ids])
                scores = weights[rows].sum(0)
                scores[[NUMBER[f"I-{kind}"] for kind in ("PER", "ORG", "JOB", "PLC") if kind != before[2:]]] = -50
                chances = np.exp(scores - scores.max())
                chances /= chances.sum()
                label = labels[index]
                if label == "?":
                    before, last = "O", index
                    continue
                if label[0] == "I" and label[2:] != before[2:]:
                    label = "B" + label[1:]
                target = NUMBER[label]
                loss -= float(np.log(chances[target] + 1e-9))
                total += 1
                slope = chances.copy()
                slope[target] -= 1
                step = slope + 2e-5 * weights[rows]
                squares[rows] += step * step
                weights[rows] -= 0.15 * step / np.sqrt(squares[rows])
                chosen = judge.LABELS[int(scores.argmax())]
                before = chosen if turn and rng.random() < 0.5 else label
                last = index
        print(f"pass {turn}: loss {loss / total:.4f} over {total:,.0f} words", flush=True)
    # Rounded to steps and thinned, so that the file is small and quick to load.
    kept = np.round(np.clip(weights, -4, 4) / STEP) * STEP * judge.SCALE
    return {
        name: [round(float(value)) for value in kept[place]]
        for name, place in ids.items()
        if np.abs(weights[place]).max() > LEAST
    }


def walk(words: Words, labels: list[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Candidates of a text with their features under the true labels."""
    before, last, key, at = "O", -2, "", -1
    for index in judge.candidates(words):
        if index != last + 1:
            before = "O"
        key, at = judge.key_of(words, index, key, at)
        yield index, judge.features(words, index, before, key)
        before, last = labels[index], index


def measure(
    weights: dict[str, list[int]], lexicon: dict[str, str], made: list[Document], least: float = 0.5
) -> dict[str, object]:
    """Characters found and missed of all kinds, spans of people found whole, false spans per 2,000 characters."""
    reader = judge.Tagger({name: judge.pack(row) for name, row in weights.items()}, lexicon, least)
    right = found_total = gold_total = persons = persons_found = false = size = 0
    started = time.process_time()
    for text, spans, _ in made:
        words = reader.words(text)
        marked, true = bytearray(len(text)), bytearray(len(text))
        for start, end, _kind in spans:
            true[start:end] = b"\1" * (end - start)
        for span in reader.find(words):
            start, end = words.starts[span.first], words.ends[span.last]
            marked[start:end] = b"\1" * (end - start)
            false += not any(true[start:end])
        for start, end, kind in spans:
            if kind == "PER":
                persons += 1
                persons_found += sum(marked[start:end]) >= 0.9 * sum(map(str.isalnum, text[start:end]))
        right += sum(a & b for a, b in zip(marked, true, strict=True))
        found_total += sum(marked)
        gold_total += sum(true)
        size += len(text)
    seconds = time.process_time() - started
    precision, recall = right / max(1, found_total), right / max(1, gold_total)
    return {
        "P": round(precision, 3),
        "R": round(recall, 3),
        "F2": round(5 * precision * recall / max(1e-9, 4 * precision + recall), 3),
        "persons": round(persons_found / max(1, persons), 3),
        "false/2000": round(false * 2000 / max(1, size), 2),
        "docs/s": round(len(made) / seconds),
    }


def negatives(texts: list[str], seed: int, count: int) -> list[Document]:
    """Stretches of documentation without names; lines that speak of authors or mail are left out."""
    rng = random.Random(seed)
    made: list[Document] = []
    while len(made) < count:
        text = rng.choice(texts)
        start = rng.randrange(max(1, len(text) - 400))
        piece = text[start : start + rng.choice([150, 300, 500])]
        low = piece.lower()
        if not any(
            sign in low
            for sign in ("author", "@", "copyright", "maintainer", "thanks", "written by", "contribut", "mr.", "dr.")
        ):
            made.append((piece, [], "documentation"))
    return made


def passages(folder: Path, seed: int, count: int) -> list[Document]:
    """Stretches of prose in the public domain, one paragraph a line in the `.txt` files of `folder`, evenly by file."""
    rng = random.Random(seed)
    files = [
        [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        for path in sorted(folder.glob("*.txt"))
    ]
    made: list[Document] = []
    for turn in range(count):
        line = rng.choice(files[turn % len(files)])
        start = line.rfind(". ", 0, rng.randrange(len(line))) + 2 if len(line) > 600 else 0
        made.append((PROSE + line[max(0, start) : max(0, start) + rng.choice([250, 400, 600])], [], "passage"))
    return made


def write(weights: dict[str, list[int]], lexicon: dict[str, str]) -> None:
    """The two files that ship."""
    classes: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
    for word, kind in sorted(lexicon.items()):
        classes[kind].append(word)
    # A tab cannot stand in a saved feature; the few that hold one are left out.
    names = sorted(name for name in weights if "\t" not in name)
    rows = b"".join((judge.pack(weights[name]) + judge.BASE).to_bytes(judge.ROW_BYTES, "little") for name in names)
    model = {"labels": judge.LABELS, "features": "\t".join(names), "weights": base64.b64encode(rows).decode()}
    for file, content in (("lexicon", {kind: " ".join(words) for kind, words in classes.items()}), ("names", model)):
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        (DATA / f"{file}.json.gz").write_bytes(gzip.compress(body, 9, mtime=0))
        print(file, (DATA / f"{file}.json.gz").stat().st_size)


def main() -> None:
    """Trains on all families and names of eight hands of ten; with --report also leaves each family out in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("census", type=Path)
    parser.add_argument("prose", type=Path)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--texts", type=int, default=30_000)
    given = parser.parse_args()
    texts = prose()
    lexicon = make(given.census, texts)
    random.Random(1).shuffle(texts)
    held, used = texts[: len(texts) // 5], texts[len(texts) // 5 :]
    families = sorted(FAMILIES)
    if given.report:
        names = {word for word in lexicon if sum(map(ord, word)) % 10 in UNSEEN and "c" not in lexicon[word]}
        without = {word: kind for word, kind in lexicon.items() if word not in names}
        for family in families:
            rest = [name for name in families if name != family]
            fitted = train(
                documents(Fillers(given.census, 1, SEEN), given.texts // 3, rest)
                + negatives(used, 2, given.texts // 9)
                + passages(given.prose, 6, given.texts // 5),
                lexicon,
                3,
            )
            unseen = documents(Fillers(given.census, 3, UNSEEN), 600, [family])
            print(
                family,
                "left out:",
                measure(fitted, lexicon, unseen),
                "names unknown:",
                measure(fitted, without, unseen),
                flush=True,
            )
        return
    made = documents(Fillers(given.census, 1, SEEN), given.texts, families) + negatives(used, 2, given.texts // 3)
    fitted = train(made + passages(given.prose, 6, given.texts), lexicon, 3)
    print(
        "trained families, unseen names:",
        measure(fitted, lexicon, documents(Fillers(given.census, 3, UNSEEN), 2000, families)),
    )
    print("held documentation:", measure(fitted, lexicon, negatives(held, 4, 2000)))
    write(fitted, lexicon)


if __name__ == "__main__":
    main()
