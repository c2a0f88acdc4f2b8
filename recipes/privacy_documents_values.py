"""Values for the templates of privacy_documents: people by role, numbers as they are written, valid check digits."""

from __future__ import annotations

import random
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from faker import Faker

WORDS: dict[str, dict[str, list[str]]] = tomllib.loads(
    Path(__file__).with_name("privacy_documents_words.toml").read_text(encoding="utf-8")
)
FORMS = {
    "licence_plate": "7ABC%3|ABC-%4|%1XYZ%3|KLM %4",
    "driver_licence": "D%7|S%3-%4-%4|%8|WDL%6",
    "medical_record": "MRN-%7|%8|%6-%2|H%7",
    "insurance_id_med": "1EG4-TE5-MK73",
    "bank_account": "%9|%10|%12|%4-%4-%4",
    "employee_id": "E%5|EMP-%4|%6|%4",
    "customer_id": "C-%6|%8|CUST%5",
    "student_id": "S%7|%9",
    "reference": "%6|REF-%5|%Y-%4|A%7",
    "licence_number": "%6|G%5|%7",
    "passport": "%9|A%8|C%2X%5",
    "social_security": "%3-%2-%4",
    "social_security_uk": "AB%6C|JK %2 %2 %2 D",
    "tax_id": "%2-%7|9%2-7%1-%4",
    "national_id": "A%9|A %3 %3 %3",
    "card_code_cvv": "%3",
    "card_code_exp": "0%1/2%1",
    "routing_number_sort": "20-%2-%2",
    "routing_number_bic": "DEUTDEFF|BOFAUS3N|HSBCGB2L",
    "licence_number_zh": "1110120%4%6%0",
    "medical_record_zh": "%8|ZY%7|M%9",
    "bank_account_zh": "6222%15|6217%15|%4 %4 %4 %4",
    "insurance_id_zh": "%9|YB%8",
    "routing_number_zh": "102%9",
    "passport_zh": "E%8|EA%7",
    "licence_plate_zh": "京A%5|粤B·%5|沪AD%5|川A%4K",
}
COURTS = "SUPERIOR|DISTRICT|CIRCUIT|FAMILY"
BLOODS = "O+|A-|AB positive|B+|O negative"


def makers(seed: int, family: str) -> dict[str, Any]:
    """Fakers by language, seeded."""
    made: dict[str, Any] = {}
    for name, locale in (("en", "en_US"), ("gb", "en_GB"), ("zh", "zh_CN")):
        made[name] = Faker(locale)
        made[name].seed_instance(f"{seed} {family} {name}")
    return made


def luhn(payload: str) -> str:
    """`payload` with its Luhn check digit (ISO/IEC 7812-1, annex B)."""
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(payload)))
    return payload + str(-total % 10)


class Source:
    """The values of one document: each slot and role keeps its value."""

    def __init__(self, chance: random.Random, makers: dict[str, Any], family: str) -> None:
        self.chance, self.makers, self.words = chance, makers, WORDS[family]
        self.kept: dict[tuple[str, str], str] = {}

    def value(self, slot: str, role: str) -> str:
        """The value of `slot` for `role`; `first` and `last` are parts of the person's name."""
        if slot in ("first", "last"):
            names = self.value("person", role).split()
            return names[0] if slot == "first" else names[-1]
        key = (slot, role)
        if key not in self.kept:
            if slot in self.words:
                # Two roles of one slot differ.
                others = {value for (other, _), value in self.kept.items() if other == slot}
                choice = [word for word in self.words[slot] if word not in others]
                self.kept[key] = self.chance.choice(choice or self.words[slot])
            else:
                self.kept[key] = self._made(slot, role)
        return self.kept[key]

    def form(self, form: str) -> str:
        """`%n` as n random digits (no leading zero), `%y` and `%Y` as a year."""
        out, parts = [], form.split("%")
        out.append(parts[0])
        for part in parts[1:]:
            if part[0] in "yY":
                year = str(self.chance.randint(2008, 2025))
                out += [year if part[0] == "Y" else year[2:], part[1:]]
                continue
            count = part[:2] if part[:2].isdigit() and part[:2] in ("10", "12", "15") else part[0]
            digits = "".join(str(self.chance.randint(0 if i else 1, 9)) for i in range(int(count)))
            out += [digits, part[len(count) :]]
        return "".join(out)

    def day(self, first: int, last: int) -> date:
        """A day between two years."""
        return date(first, 1, 1) + timedelta(days=self.chance.randrange((last - first) * 365))

    def _date(self, first: int, last: int) -> str:
        day = self.day(first, last)
        form = self.chance.choice(
            ("%m/%d/%Y", "%B %d, %Y", "%Y-%m-%d", "%d %B %Y", "%b %d, %Y", "%m/%d/%y", "%d.%m.%Y")
        )
        return day.strftime(form)

    def _amount(self) -> str:
        number = self.chance.choice((self.chance.randint(80, 9_999), self.chance.randint(10_000, 950_000)))
        return self.chance.choice((f"${number:,}.00", f"${number:,}", f"USD {number:,}", f"${number}.50"))

    def _resident(self) -> str:
        body = self.chance.choice(("110105", "310104", "440106", "510107", "330106")) + self.day(1950, 2004).strftime(
            "%Y%m%d"
        )
        body += self.form("%3")
        weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
        return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11]

    def _company(self) -> str:
        alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
        body = "91110108" + "".join(self.chance.choice(alphabet) for _ in range(9))
        total = sum(alphabet.index(char) * pow(3, i, 31) for i, char in enumerate(body))
        return body + alphabet[-total % 31]

    def _iban(self) -> str:
        body = "37040044" + self.form("%10")
        check = 98 - int(body + "131400") % 97
        plain = f"DE{check:02}{body}"
        return self.chance.choice((plain, " ".join(plain[i : i + 4] for i in range(0, 22, 4))))

    def _routing(self) -> str:
        body = "0" + self.form("%7")
        weights = (3, 7, 1, 3, 7, 1, 3, 7)
        return body + str(-sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 10)

    def _case_zh(self) -> str:
        return self.form(f"（%Y）{self.chance.choice('京沪粤川')}%4民初%4号")

    def _made(self, slot: str, role: str) -> str:
        en, zh, gb = self.makers["en"], self.makers["zh"], self.makers["gb"]
        pick = self.chance.choice
        if slot in {"card_code", "routing_number"}:
            if role == "aba" or (slot == "routing_number" and role in ("p", "b")):
                return self._routing()
            return self.form(pick(FORMS[f"{slot}_{role}"].split("|")))
        if slot == "insurance_id":
            return FORMS["insurance_id_med"] if role == "med" else self.form(pick(self.words["policy"]))
        if slot == "national_id" and role == "nhs":
            return self.form("943 476 59%2")
        if slot in FORMS:
            return self.form(pick(FORMS[slot].split("|")))
        simple = {
            "person": lambda: f"{en.first_name()} {en.last_name()}",
            "date": lambda: self._date(2018, 2026),
            "date_of_birth": lambda: self._date(1940, 2004),
            "age": lambda: str(self.chance.randint(19, 91)),
            "address": lambda: self._address(en, gb),
            "phone": lambda: pick(
                (en.numerify("(###) 555-####"), en.numerify("+1 ###-555-####"), en.numerify("###-555-####"))
            ),
            "email": en.ascii_free_email,
            "case_number": lambda: self.form(pick(self.words["case"])).removeprefix("No. "),
            "organisation": en.company,
            "amount": self._amount,
            "gender": lambda: pick(("male", "female")),
            "blood_type": lambda: pick(BLOODS.split("|")),
            "iban": self._iban,
            "bank_card": lambda: luhn("4" + self.form("%7") + self.form("%7")),
            "vehicle_id": en.vin,
            "place": en.state,
            "court": lambda: pick(COURTS.split("|")),
            "court_zh": lambda: zh.city_name() + "市",
            "person_zh": zh.name,
            "date_zh": lambda: self._date_zh(2018, 2026),
            "date_of_birth_zh": lambda: self._date_zh(1950, 2004),
            "age_zh": lambda: f"{self.chance.randint(19, 90)}岁",
            "address_zh": lambda: zh.address().rsplit(" ", 1)[0],
            "phone_zh": zh.phone_number,
            "gender_zh": lambda: pick("男女"),
            "amount_zh": lambda: pick(
                (f"{self.chance.randint(1, 99)}万元", f"人民币{self.chance.randint(1000, 99999)}元")
            ),
            "organisation_zh": zh.company,
            "national_id_zh": self._resident,
            "company_id_zh": self._company,
            "case_number_zh": self._case_zh,
            "blood_type_zh": lambda: pick(("O型", "AB型", "A型")),
        }
        return str(simple[slot]())

    def _date_zh(self, first: int, last: int) -> str:
        day = self.day(first, last)
        return self.chance.choice((f"{day.year}年{day.month}月{day.day}日", day.isoformat()))

    def _address(self, en: Any, gb: Any) -> str:
        if self.chance.random() < 0.2:
            return str(gb.address()).replace("\n", ", ")
        street = str(en.street_address())
        return f"{street}, {en.city()}, {en.state_abbr()} {en.zipcode()}"
