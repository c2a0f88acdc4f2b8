"""Checks of cards (ISO/IEC 7812) and of international account numbers (ISO 13616)."""

from __future__ import annotations

from catena.reach.privacy.identifiers.arithmetic import luhn, mod_97_10

# Characters of an IBAN by country, SWIFT's registry.
_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_LENGTHS = {country: length for length, countries in _COUNTRIES.items() for country in countries.split(" ")}


def iban_form(number: str) -> bool:
    """A country of the registry and its length."""
    return _LENGTHS.get(number[:2]) == len(number)


def iban(number: str) -> bool:
    """Country, length, and ISO 7064 MOD 97-10 with the first four characters at the end."""
    return iban_form(number) and mod_97_10(number[4:] + number[:4])


def card(number: str) -> bool:
    """Luhn, and a range of an issuer: Visa, Mastercard, Amex, Diners, Discover, JCB, UnionPay, Maestro, Mir."""
    return len(set(number)) > 1 and _is_issued(number) and luhn(number)


def _is_issued(number: str) -> bool:
    length, two, four = len(number), int(number[:2]), int(number[:4])
    if number[0] == "4":
        return length in (13, 16, 19)
    if two in (34, 37):
        return length == 15
    if 51 <= two <= 55 or 2221 <= four <= 2720 or 2200 <= four <= 2204 or 3528 <= four <= 3589:
        return length == 16
    if two in (36, 38, 39) or 3000 <= int(number[:4]) <= 3059 or four == 3095:
        return 14 <= length <= 19
    # UnionPay 62 and 81, Discover 60, 64 and 65, Maestro 50 and 56-69.
    return two in (50, 62, 81, 64, 65, 60, 63, 67, 68, 69, 61) or 56 <= two <= 58
