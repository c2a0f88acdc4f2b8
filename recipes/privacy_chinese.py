"""Makes the Chinese lexicon and judge of names, and measures it: `python recipes/privacy_chinese.py SOURCES`.

SOURCES is the folder that privacy_chinese_lexicon.py describes. Logistic regression (scikit-learn, liblinear) over the
features that the reader uses at run time, on sentences that we generate. Names and sentences are held out: a name by
its digest, every fourth sentence of a list. Seeded.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import random
import re
import time
import zlib
from pathlib import Path

import msgspec
import numpy as np
import privacy_chinese_lexicon as lexicon
from faker.providers.address.zh_CN import Provider as Addresses
from faker.providers.person.zh_CN import Provider as People
from privacy_chinese_templates import NEUTRAL, NEWS, PERSONAL
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from catena.reach.privacy.judging.chinese import Chinese, Reader

DATA = Path(__file__).parent.parent / "src/catena/reach/privacy/data"
Row = tuple[str, list[tuple[int, int, str]], str]
SLOTS = {"n": "person", "f": "person", "a": "address", "t": "phone", "i": "national_id", "e": "email", "p": "place"}
DROPPED = 0.75
NO_ENDS = "人妈爸府氏会病监部队站道县镇村"
PIECES = [
    "{b}{n}{r}",
    "{b}{f}{r}",
    "{w}{w}",
    "{w}",
    "{w}{w}{w}",
    "{w}{w}，",
    "{w}，",
    "{b}{n}、{n}{r}",
    "{p}",
    "{b}{n}和{f}{r}",
    "。{n}{r}",
    "{b}{n}，",
    "，{f}{r}",
    "{o}",
]
CITIES = [
    "北京市朝阳区",
    "上海市浦东新区",
    "广东省深圳市南山区",
    "浙江省杭州市西湖区",
    "成都市武侯区",
    "南京鼓楼区",
    "武汉市洪山区",
]
RESIDENT = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
SLOT = re.compile(r"\{(\w)\}")
MINORITY_FIRST = [
    "阿依古丽",
    "古丽娜",
    "买买提",
    "艾力",
    "阿卜杜拉",
    "吐尔逊",
    "努尔",
    "热依汗",
    "阿迪力",
    "帕提古丽",
    "玉素甫",
    "依明",
    "木合塔尔",
    "迪丽热巴",
    "阿不都",
]
MINORITY_LAST = [
    "买买提",
    "艾合买提",
    "吐尔逊",
    "阿不都热依木",
    "卡德尔",
    "迪力木拉提",
    "尼亚孜",
    "依布拉音",
    "玉素甫",
    "沙吾提",
    "肉孜",
    "图尔荪",
]
RARE = [
    "占",
    "仝",
    "逄",
    "滑",
    "税",
    "禹",
    "苟",
    "鞠",
    "粟",
    "佘",
    "麻",
    "幸",
    "阚",
    "冉",
    "揭",
    "苑",
    "臧",
    "隋",
    "闫",
    "褚",
    "栾",
    "逯",
    "母",
    "战",
    "展",
]


def is_held(text: str) -> bool:
    """Whether a name or word is kept for the test, by its digest."""
    return zlib.crc32(text.encode()) % 4 == 0


def _weighted(words: list[tuple[str, int, str]], side: int) -> tuple[list[str], list[float]]:
    """Words beside which names stand, by the mark at `side`, and how often to take them."""
    chosen = [(word, count, marks[side]) for word, count, marks in words if marks[side] in "fghi"]
    return [word for word, _, _ in chosen], [count**0.5 * (3 if mark in "ghi" else 1) for _, count, mark in chosen]


class Fillers:
    """What fills a slot, from the lists for training or those that are held out."""

    def __init__(
        self, rows: list[tuple[str, int, str]], places: dict[str, str], marks: dict[str, str], held: bool, seed: int
    ) -> None:
        self.random = random.Random(seed)
        surnames = lexicon.SURNAMES
        first = [name for name in People.first_names if is_held(name) == held]
        self.first = first
        self.surnames = list(dict.fromkeys(surnames))
        self.weights = [1 / (rank + 12) for rank in range(len(self.surnames))]
        listed = [w for w, c, t in rows if t == "nr" and w[0] in surnames[:220] and 2 <= len(w) <= 3 and c < 200]
        self.known = [name for name in listed if is_held(name) == held and name[-1] not in NO_ENDS]
        foreign = set(lexicon.FOREIGN)
        self.foreign = [w for w, c, t in rows if t == "nrt" and set(w) <= foreign and len(w) >= 2 and w not in places]
        self.foreign = [name for name in self.foreign if is_held(name) == held]
        self.places = [name for name, kind in places.items() if is_held(name) == held and kind != "2" and len(name) < 6]
        self.common = [(w, c) for w, c, t in rows if t[:2] not in ("nr", "ns", "nt") and 1 <= len(w) <= 4]
        frequent = [(w, c, marks[w]) for w, c in self.common if w in marks and c > 300]
        self.sides = [self.random.choices(*_weighted(frequent, side), k=4000) for side in (2, 3)]
        self.counts = np.cumsum([c for _, c in self.common])
        self.organisations = [w for w, c, t in rows if t == "nt" and is_held(w) == held] + ["北京大学", "第一人民医院"]
        self.provinces = Addresses.provinces
        self.districts = Addresses.districts

    def n(self) -> str:
        rng = self.random
        chance = rng.random()
        if chance < 0.04:
            return rng.choice(lexicon.COMPOUND[:36]) + rng.choice(self.first)
        if chance < 0.06:
            return rng.choice(RARE) + rng.choice(self.first)
        if chance < 0.08:
            return rng.choice(MINORITY_FIRST) + "·" + rng.choice(MINORITY_LAST)
        if chance < 0.36:
            return rng.choice(self.known)
        surname = rng.choices(self.surnames, self.weights)[0]
        if chance < 0.66:
            return surname + rng.choice(self.first)
        name = rng.choice(self.known)
        return surname + name[1:]

    def f(self) -> str:
        rng = self.random
        chance = rng.random()
        if chance < 0.25:
            return rng.choice(self.foreign) + "·" + rng.choice(self.foreign)
        if chance < 0.35:
            # A transcription of nobody: halves of two.
            one, other = rng.choice(self.foreign), rng.choice(self.foreign)
            return one[: (len(one) + 1) // 2] + other[len(other) // 2 :]
        return rng.choice(self.foreign)

    def s(self) -> str:
        return self.random.choices(self.surnames, self.weights)[0]

    def p(self) -> str:
        return self.random.choice(self.places)

    def w(self) -> str:
        at = int(np.searchsorted(self.counts, self.random.random() * self.counts[-1]))
        # Rare words too: they are many, and the ones that begin like names must be met.
        word = self.common[at][0] if self.random.random() < 0.6 else self.random.choice(self.common)[0]
        return word if len(word) > 1 or self.random.random() < 0.5 else self.w()

    def b(self) -> str:
        """A word after which names stand."""
        return self.random.choice(self.sides[0]) if self.random.random() < 0.6 else self.w()

    def r(self) -> str:
        """A word before which names stand."""
        return self.random.choice(self.sides[1]) if self.random.random() < 0.6 else self.w()

    def o(self) -> str:
        rng = self.random
        if rng.random() < 0.5:
            return rng.choice(self.organisations)
        return self.p() + self.w() + rng.choice(("有限公司", "集团", "股份有限公司", "大学", "中学", "医院", "银行"))

    def d(self) -> str:
        return str(self.random.randint(1, 10 ** self.random.randint(1, 4)))

    def t(self) -> str:
        return self.random.choice(("13", "15", "18", "17", "19")) + "".join(self.random.choices("0123456789", k=9))

    def i(self) -> str:
        rng = self.random
        region = rng.choice(("110105", "310115", "440106", "510104", "320106", "420111", "650102", "540102"))
        body = (
            f"{region}{rng.randint(1950, 2010)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}{rng.randint(1, 999):03}"
        )
        total = sum(int(digit) * factor for digit, factor in zip(body, RESIDENT, strict=True))
        return body + "10X98765432"[total % 11]

    def e(self) -> str:
        rng = self.random
        name = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(4, 9))) + rng.choice(("", self.d()))
        return f"{name}@{rng.choice(('qq.com', '163.com', 'example.cn', 'gmail.com', 'yahoo.com'))}"

    def a(self) -> str:
        rng = self.random
        chance = rng.random()
        if chance < 0.35:
            city = rng.choice(Addresses.cities) if rng.random() < 0.5 else rng.choice(self.first)
            road = rng.choice(Addresses.cities) if rng.random() < 0.5 else self.s()
            city += rng.choice("市县")
            head = rng.choice(self.provinces) + city + rng.choice(self.districts)
            return f"{head}{road}{rng.choice('街路')}{rng.choice('ABCDEFGHIJ')}座"
        road = self.p()[:2] + rng.choice(("路", "街", "大道", "中路", "北街", "东路"))
        block = f"{self.w()}小区{rng.randint(1, 20)}号楼{rng.randint(1, 6)}单元{rng.randint(101, 3002)}"
        door = f"{rng.randint(1, 30)}栋{rng.randint(101, 2805)}室"
        tail = self.d() + rng.choice(("号", f"号{door}", f"弄{self.d()}号", f"号{block}"))
        head = rng.choice(CITIES)
        return (head if chance < 0.9 else "") + road + tail

    def text(self, template: str) -> tuple[str, list[tuple[int, int, str]]]:
        """A sentence with its slots filled, and where what is."""
        text, spans, past = "", [], 0
        for slot in SLOT.finditer(template):
            text += template[past : slot.start()]
            filler = getattr(self, slot[1])()
            if slot[1] in SLOTS:
                spans.append((len(text), len(text) + len(filler), SLOTS[slot[1]]))
            text += filler
            past = slot.end()
        return text + template[past:], spans


def documents(fillers: Fillers, count: int, held: bool, mix: tuple[int, ...] = (3, 4, 5, 6)) -> list[Row]:
    """Texts of the three lists and of names among random words; a third of the news lacks its full stop."""
    rng = fillers.random
    lists = [
        (name, [line for at, line in enumerate(lines) if (at % 4 == 3) == held])
        for name, lines in (("personal", PERSONAL), ("news", NEWS), ("neutral", NEUTRAL), ("random", [""] * 4))
    ]
    made: list[Row] = []
    for _ in range(count):
        family, lines = rng.choices(lists, mix)[0]
        template = rng.choice(lines)
        if family != "personal" and rng.random() < 0.5:
            template = rng.choice(("{w}{w}，", "{w}{w}{w}", "{d}年，", "{w}，", "{w}{w}{w}{w}。")) + template
        if family == "random":
            template = "".join(rng.choices(PIECES, k=6))
        if family == "news" and rng.random() < 0.3:
            template = template.rstrip("。")
        text, spans = fillers.text(template)
        made.append((text, spans, family))
    return made


def candidates(reader: Reader, rows: list[Row]) -> tuple[list[list[str]], list[bool]]:
    """Features and truth of every candidate of `rows`."""
    rng = random.Random(9)
    features: list[list[str]] = []
    truths: list[bool] = []
    for original, spans, _ in rows:
        text = reader.simplified(original)
        gold = {(start, end) for start, end, kind in spans if kind == "person"}
        for start, end, surname in reader.name_candidates(text) + reader.foreign_candidates(text):
            each = reader.features(text, start, end, surname)
            # What stands around a name in our sentences is not what stands around it elsewhere.
            if rng.random() < DROPPED:
                each = [feature for feature in each if feature.lstrip(".")[0] not in "pnPN"]
            # Foreign names of the dictionary are not all that there are.
            if not surname and rng.random() < DROPPED:
                each = [feature for feature in each if feature[:2] not in (".w", ".W", ".O")]
            features.append(each)
            truths.append((start, end) in gold)
    return features, truths


def train(reader: Reader, rows: list[Row]) -> dict[str, float]:
    """Weights by feature, those near nought left out."""
    features, truths = candidates(reader, rows)
    counts = collections.Counter(feature for each in features for feature in each)
    number = {name: at for at, name in enumerate(sorted(name for name, count in counts.items() if count >= 4))}
    columns, bounds = [], [0]
    for each in features:
        columns += [number[name] for name in set(each) if name in number]
        bounds.append(len(columns))
    matrix = csr_matrix((np.ones(len(columns), np.float32), columns, bounds), (len(features), len(number)))
    model = LogisticRegression(C=0.3, solver="liblinear", random_state=5, max_iter=60).fit(matrix, np.array(truths))
    print(f"{len(features)} candidates, {sum(truths)} names, {len(number)} features")
    weights = {name: round(float(model.coef_[0][at]), 2) for name, at in number.items()}
    weights = {name: weight for name, weight in weights.items() if abs(weight) >= 0.04}
    weights[""] = round(float(model.intercept_[0]), 3)
    return weights


def score(reader: Reader, rows: list[Row], show: int = 0) -> str:
    """Precision, recall and F1 of exact names."""
    right = found = gold = 0
    for text, spans, _ in rows:
        known = {(start, end) for start, end, kind in spans if kind == "person"}
        ours = {(each.start, each.end) for each in reader.people(reader.simplified(text), 0.5)}
        right, found, gold = right + len(known & ours), found + len(ours), gold + len(known)
        if show and known != ours:
            show -= 1
            wrong, missed = ([text[s:e] for s, e in some] for some in (ours - known, known - ours))
            print("   ", text[:90], wrong, "MISSED", missed)
    p, r = right / max(found, 1), right / max(gold, 1)
    return f"P {p:.3f} R {r:.3f} F1 {2 * p * r / max(p + r, 1e-9):.3f} ({gold} names)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--report", action="store_true", help="measure only what ships")
    parser.add_argument("--count", type=int, default=30000)
    chosen = parser.parse_args()
    rows = lexicon.dictionary(chosen.sources)
    places = lexicon.places(chosen.sources, rows)
    marks = lexicon.words(rows, lexicon.ner(chosen.sources))
    path = DATA / "chinese.json.gz"
    if not chosen.report:
        fillers = Fillers(rows, places, marks, False, 5)
        # Statistics of single characters are of all names; whole names are held out.
        names = fillers.known + Fillers(rows, places, marks, True, 5).known
        names += ["王" + name for name in People.first_names if len(name) <= 2] * 4
        known = Chinese(
            marks,
            lexicon.surnames(),
            lexicon.given(names, rows),
            "".join(dict.fromkeys(lexicon.FOREIGN)),
            places,
            lexicon.simple(chosen.sources),
            {"": 0.0},
        )
        # Foreign names that are held out may not be words of the lexicon while it is measured.
        kept = {w: m for w, m in known.words.items() if m[0] not in "rt" or not is_held(w)}
        known = msgspec.structs.replace(known, words=kept)
        # The judge learns with a part of the rarer words unknown: no lexicon holds all that a text may bring.
        fewer = {w: m for w, m in known.words.items() if m[1] > "4" or zlib.crc32(b"w" + w.encode()) % 5}
        learner = Reader(msgspec.structs.replace(known, words=fewer))
        known = msgspec.structs.replace(known, weights=train(learner, documents(fillers, chosen.count, False)))
        DATA.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(msgspec.json.encode(known), 9, mtime=0))
    reader = Reader(msgspec.json.decode(gzip.decompress(path.read_bytes()), type=Chinese))
    for name, held in (("in sample", False), ("held out", True)):
        test = documents(Fillers(rows, places, marks, held, 77), 3000, held)
        for family in ("personal", "news", "neutral", "random"):
            part = [row for row in test if row[2] == family]
            print(f"{name:10} {family:9}", score(reader, part, 12 if held else 0))
        began = time.process_time()
        for text, _, _ in test:
            reader.people(reader.simplified(text), 0.5)
        print(f"{(time.process_time() - began) / sum(len(row[0]) for row in test) * 150e3:.3f} ms for 150 characters")


if __name__ == "__main__":
    main()
