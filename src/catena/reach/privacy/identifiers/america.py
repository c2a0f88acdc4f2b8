"""Checks of numbers of North and South America."""

from __future__ import annotations

from catena.reach.privacy.identifiers.arithmetic import is_short_date, luhn, weighted


def provider(number: str) -> bool:
    """National Provider Identifier: Luhn with the prefix 80840 (45 CFR 162.406)."""
    return number[0] in "12" and luhn("80840" + number)


def drug_enforcement(number: str) -> bool:
    """DEA number: two letters, six digits; d1 + d3 + d5 + 2 (d2 + d4 + d6) ends in the seventh."""
    tail = number[2:]
    return (weighted(tail[:6], (1, 2, 1, 2, 1, 2))) % 10 == int(tail[6])


def routing(number: str) -> bool:
    """ABA routing number: a district of the Federal Reserve, weights 3 7 1, divisible by ten."""
    district = int(number[:2])
    in_use = district <= 12 or 21 <= district <= 32 or 61 <= district <= 72 or district == 80
    return in_use and number != "000000000" and weighted(number, (3, 7, 1) * 3) % 10 == 0


def social_insurance(number: str) -> bool:
    """Canada's SIN: Luhn, never 8 in front."""
    return number[0] not in "08" and luhn(number)


def cpf(number: str) -> bool:
    """Brazil, persons: two checks of weights from 10 and from 11."""
    if len(set(number)) == 1:
        return False
    return all(
        -weighted(number[:length], range(length + 1, 1, -1)) % 11 % 10 == int(number[length]) for length in (9, 10)
    )


def cnpj(number: str) -> bool:
    """Brazil, companies: two checks of weights 5 4 3 2 9 8 7 6 5 4 3 2 and 6 before them."""
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    return len(set(number)) > 1 and all(
        -weighted(number[:length], weights[13 - length :]) % 11 % 10 == int(number[length]) for length in (12, 13)
    )


def curp(number: str) -> bool:
    """Mexico's CURP: a date of birth at the fifth character."""
    return is_short_date(number[4:6], number[6:8], number[8:10])


def rfc(number: str) -> bool:
    """Mexico's RFC: a date after three letters (companies) or four (persons)."""
    at = len(number) - 9
    return is_short_date(number[at : at + 2], number[at + 2 : at + 4], number[at + 4 : at + 6])


def cuit(number: str) -> bool:
    """Argentina: a known prefix, weights 5 4 3 2 7 6 5 4 3 2."""
    rest = -weighted(number[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    is_known = number[:2] in ("20", "23", "24", "25", "26", "27", "30", "33", "34")
    return is_known and min(rest, 9) == int(number[10])


def rut(number: str) -> bool:
    """Chile: weights 2 to 7 from the right, K for ten."""
    total = sum(int(char) * (2 + index % 6) for index, char in enumerate(reversed(number[:-1])))
    return "0123456789K"[-total % 11] == number[-1]


def nit(number: str) -> bool:
    """Colombia's NIT: weights of primes from the right."""
    weights = (3, 7, 13, 17, 19, 23, 29, 37, 41, 43, 47, 53, 59, 67, 71)
    rest = sum(int(char) * weight for char, weight in zip(reversed(number[:-1]), weights, strict=False)) % 11
    return int(number[-1]) == (rest if rest < 2 else 11 - rest)


def ruc(number: str) -> bool:
    """Peru's RUC: weights 5 4 3 2 7 6 5 4 3 2."""
    rest = (11 - weighted(number[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 10
    return number[:2] in ("10", "15", "16", "17", "20") and rest == int(number[10])


def cedula(number: str) -> bool:
    """Ecuador: a province and Luhn over ten digits."""
    return (1 <= int(number[:2]) <= 24 or number[:2] == "30") and number[2] in "0123456" and luhn(number)
