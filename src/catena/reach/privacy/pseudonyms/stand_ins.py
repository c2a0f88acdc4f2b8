"""Makes a stand-in for one private text: of its kind, in its shape, of a world that does not exist.

No character of a stand-in for digits or letters is that of the original at its place; of a name, no word is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

# Numbers below `bound` from a keyed stream.
Draw = Callable[[int], int]

GIVEN = (
    "Alden", "Bryony", "Corwin", "Delphine", "Edric", "Fenella", "Gideon", "Honora", "Isolde", "Jarvis", "Kestrel",
    "Linnea", "Merrick", "Nerys", "Orson", "Perpetua", "Quillon", "Rosalind", "Sabin", "Tamsin", "Ulric", "Verity",
    "Wystan", "Xanthe", "Yorick", "Zelda", "Ambrose", "Briar", "Cosima", "Dorian", "Evander", "Fleur",
)  # fmt: skip
FAMILY = (
    "Ashdown", "Brackley", "Colverton", "Dunmore", "Eddington", "Fairwood", "Gallowby", "Harrowgate", "Inglewood",
    "Jessamy", "Kilbride", "Larkspur", "Mossgrove", "Netherby", "Oakhollow", "Penhallow", "Quarrington", "Ravenscar",
    "Silverdale", "Thornbury", "Underhill", "Vantreight", "Winterbourne", "Yarborough", "Applegarth", "Bexhill",
    "Cresswell", "Drayton", "Elmsworth", "Foxcombe", "Greyfriars", "Hollowell",
)  # fmt: skip
SURNAMES_ZH = "穆郁柏岑蓝纪翟莫樊柯晏瞿池"
GIVEN_ZH = "岚屿澄溪笙棠阙沐芷泠砚聿珩杳黛沅湄瑾煦霁"
STREETS = ("Juniper Hill", "Larch", "Saltmarsh", "Windrush", "Copperfield", "Heron", "Bramblewood", "Millrace")
TOWNS = ("Fairhollow", "Northmere", "Westerleigh", "Ashcombe", "Greywater", "Lindenfield", "Oxmoor", "Stillbrook")
PLACES_ZH = ("云岭", "澄江", "霞浦湾", "松溪", "望岚", "青芜", "泽兰", "雁回")
COMPANIES = ("Northwind", "Bluegate", "Harbourline", "Redfern", "Stonebridge", "Clearbrook", "Ironvale", "Larkfield")
COMPANIES_ZH = ("澄岚", "云屿", "松砚", "泽芷", "青珩", "霁川", "沐棠", "望溪")
TITLES = ("Coordinator", "Adviser", "Associate", "Supervisor", "Planner", "Inspector")
TITLES_ZH = ("专员", "主管", "顾问", "督导")
SUFFIXES = re.compile(
    r"[\s,]+(?:Inc|LLC|Ltd|Limited|Corp|Corporation|Co|GmbH|AG|SA|S\.A|PLC|LLP|BV|Pty|Hospital|Clinic|University|"
    r"College|School|Bank|Group|Systems|Solutions|Industries|Enterprises|Laboratories|Partners|Foundation)\.?$"
)
SUFFIXES_ZH = re.compile(
    r"(?:股份有限公司|有限责任公司|有限公司|集团|公司|医院|大学|学院|中学|小学|学校|银行|事务所|研究院|研究所|委员会|局|厂|店|中心)$"
)
_HAN = re.compile(r"[\u3400-\u9fff]")
_DATE = re.compile(r"\d{4}(\D)(\d{1,2})(?:\D)(\d{1,2})|(\d{1,2})\D(\d{1,2})\D(\d{2,4})")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_MONTH = re.compile("|".join(f"{month}|{month[:3]}" for month in _MONTHS), re.IGNORECASE)


def stand_in(kind: str, text: str, draw: Draw) -> str:
    """A stand-in for `text`, which is of `kind`; another one for other numbers of `draw`."""
    is_han = _HAN.search(text) is not None
    match kind:
        case "person":
            return _person_zh(text, draw) if is_han else _person(text, draw)
        case "email":
            return _email(draw)
        case "address" | "place":
            return _address_zh(text, draw) if is_han else _address(text, draw)
        case "organisation" | "school":
            return _company_zh(text, draw) if is_han else _company(text, draw)
        case "job_title":
            return _pick(TITLES_ZH if is_han else TITLES, draw)
        case "url":
            return f"https://www.{_pick(COMPANIES, draw).lower()}.example/{draw(10**6)}"
        case "age":
            return _numbers(text, lambda number: 18 + (number + 7 + draw(40)) % 70)
        case "date" | "date_of_birth" | "timestamp":
            return _time(text, draw)
        case "ip_address" if ":" not in text:
            return f"198.51.100.{draw(254) + 1}"  # TEST-NET-2 of RFC 5737
        case _:
            return _shaped(text, draw)


def _pick(names: Sequence[str], draw: Draw) -> str:
    return names[draw(len(names))]


def _person(text: str, draw: Draw) -> str:
    """As many words as `text` has, cased as they are; initials stay initials, `Family, Given` stays in that order."""
    words = re.split(r"([\s,.]+)", text)
    places = [index for index in range(0, len(words), 2) if words[index]]
    is_turned = "," in text
    for number, index in enumerate(places):
        word = words[index]
        is_family = (number == 0) if is_turned else (number == len(places) - 1 and len(places) > 1)
        if len(word) == 1:
            words[index] = _other_letter(word, draw)
        else:
            words[index] = _cased(word, _pick(FAMILY if is_family else GIVEN, draw))
    return "".join(words)


def _person_zh(text: str, draw: Draw) -> str:
    """As many characters as `text` has; a dot between parts of a name stays."""
    parts = [letter if not _HAN.match(letter) else GIVEN_ZH[draw(len(GIVEN_ZH))] for letter in text]
    if parts and "·" not in text and len(text) <= 4:
        parts[0] = SURNAMES_ZH[draw(len(SURNAMES_ZH))]
    return "".join(parts)


def _email(draw: Draw) -> str:
    return f"{_pick(GIVEN, draw).lower()}.{_pick(FAMILY, draw).lower()}{draw(90) + 10}@mail.example"


def _address(text: str, draw: Draw) -> str:
    """A street with a number if `text` has one, a town, and a postcode in the shape of its own."""
    place = f"{_pick(TOWNS, draw)}"
    if not re.search(r"\d", text):
        return place
    street = f"{draw(8999) + 1000} {_pick(STREETS, draw)} Road"
    tail = re.search(r"[A-Z]{0,2}\d[\dA-Z]*(?:[ -]\d?[\dA-Z]+)?\s*$", text)
    code = _shaped(tail[0].strip(), draw) if tail and "," in text else ""
    return ", ".join(part for part in (street, place, code) if part)


def _address_zh(text: str, draw: Draw) -> str:
    """The same kinds of parts as `text` has: province, city, district, road, number, room."""
    found: list[str] = []
    for unit in ("省", "市", "区", "县", "镇", "路", "街", "村", "号", "栋", "单元", "室"):
        if unit in text:
            is_numbered = unit in ("号", "栋", "单元", "室")
            found.append((str(draw(90) + 10) if is_numbered else _pick(PLACES_ZH, draw)) + unit)
    return "".join(found) or _pick(PLACES_ZH, draw) + "镇"


def _company(text: str, draw: Draw) -> str:
    suffix = SUFFIXES.search(text)
    return _pick(COMPANIES, draw) + (suffix[0] if suffix else " Works")


def _company_zh(text: str, draw: Draw) -> str:
    suffix = SUFFIXES_ZH.search(text)
    return _pick(COMPANIES_ZH, draw) + (suffix[0] if suffix else "公司")


def _time(text: str, draw: Draw) -> str:
    """Another day in the same form: months stay months, days days."""

    def year(number: int) -> int:
        return number - 7 + draw(5) if number > 31 else number

    text = _MONTH.sub(lambda found: _another_month(found[0], draw), text)
    parts = re.split(r"(\d+)", text)
    values = [int(part) for part in parts[1::2] if len(part) < 10]
    if len(values) != len(parts) // 2:
        return _shaped(text, draw)
    for place in range(1, len(parts), 2):
        number, width = int(parts[place]), len(parts[place])
        if width == 4:
            new = year(number) if 1800 < number < 2200 else 1970 + draw(60)
        elif number <= 12:
            new = (number + draw(10)) % 12 + 1
        elif number <= 31:
            new = 13 + (number - 13 + 1 + draw(11)) % 16
        else:
            new = (number + 1 + draw(20)) % 60 if width == 2 else number + 1
        parts[place] = str(new).zfill(width)[-width:] if width > 1 else str(new)
    return "".join(parts)


def _another_month(name: str, draw: Draw) -> str:
    index = next(place for place, month in enumerate(_MONTHS) if month[:3].lower() == name[:3].lower())
    other = _MONTHS[(index + 1 + draw(11)) % 12]
    return _cased(name, other[:3] if len(name) == 3 and name.lower() != "may" else other)


def _numbers(text: str, change: Callable[[int], int]) -> str:
    return re.sub(r"\d+", lambda found: str(change(int(found[0][:9]))), text)


def _shaped(text: str, draw: Draw) -> str:
    """Every digit another digit, every letter another letter of its case; everything else stays."""
    out: list[str] = []
    for letter in text:
        if letter.isascii() and letter.isdigit():
            low = 1 if letter != "0" and (not out or not out[-1].isdigit()) else 0
            choices = [digit for digit in "0123456789"[low:] if digit != letter]
            out.append(choices[draw(len(choices))])
        elif letter.isalpha() and letter.isascii():
            out.append(_other_letter(letter, draw))
        elif _HAN.match(letter):
            out.append(GIVEN_ZH[draw(len(GIVEN_ZH))])
        elif letter.isalnum():
            out.append("x")
        else:
            out.append(letter)
    return "".join(out)


def _other_letter(letter: str, draw: Draw) -> str:
    alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZ" if letter.isupper() else "abcdefghjkmnpqrstuvwxyz"
    choices = [other for other in alphabet if other != letter]
    return choices[draw(len(choices))]


def _cased(model: str, word: str) -> str:
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word.lower() if model.islower() else word
