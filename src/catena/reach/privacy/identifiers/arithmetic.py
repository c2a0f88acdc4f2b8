"""Check digits: Luhn, Verhoeff, ISO 7064, weighted sums, and dates of birth inside numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

# Verhoeff, "Error Detecting Decimal Codes" (1969): the dihedral group of order ten, and its permutation.
_DIHEDRAL = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_PERMUTED = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 5, 7, 6, 2, 8, 3, 0, 9, 4),
    (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
    (9, 4, 5, 3, 1, 2, 6, 8, 7, 0),
    (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5),
    (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)


def weighted(number: str, weights: Sequence[int]) -> int:
    """The sum of the first characters times `weights`."""
    return sum(int(char, 36) * weight for char, weight in zip(number, weights, strict=False))


def luhn(number: str) -> bool:
    """ISO/IEC 7812-1, annex B: from the right, every second digit doubled, the sum of digits divides by ten."""
    total = 0
    for index, char in enumerate(reversed(number)):
        value = int(char, 36) * (1 + index % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def verhoeff(number: str) -> bool:
    """The number with its check digit comes to zero in the dihedral group."""
    check = 0
    for index, char in enumerate(reversed(number)):
        check = _DIHEDRAL[check][_PERMUTED[index % 8][int(char)]]
    return check == 0


def mod_97_10(number: str) -> bool:
    """ISO 7064 MOD 97-10, letters as two digits."""
    return int("".join(str(int(char, 36)) for char in number)) % 97 == 1


def mod_11_10(number: str) -> bool:
    """ISO 7064 MOD 11,10: the hybrid system of Germany's tax number and Croatia's OIB."""
    check = 10
    for char in number[:-1]:
        check = (check + int(char)) % 10 or 10
        check = check * 2 % 11
    return (check + int(number[-1])) % 10 == 1


def is_date(year: int, month: int, day: int) -> bool:
    """Whether that day was, from 1880 on and not in the future of any number given today."""
    if not 1880 <= year <= 2035 or not 1 <= month <= 12 or not 1 <= day <= 31:
        return False
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def is_short_date(two: str, month: str, day: str) -> bool:
    """Whether a day of either century has this year of two digits, month and day."""
    year = int(two)
    return is_date(1900 + year, int(month), int(day)) or (year <= 35 and is_date(2000 + year, int(month), int(day)))
