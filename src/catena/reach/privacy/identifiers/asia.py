"""Checks of numbers of China, its regions, and other countries of Asia, Africa and Oceania."""

from __future__ import annotations

from catena.reach.privacy.identifiers.arithmetic import is_date, is_short_date, luhn, verhoeff, weighted

# First two digits of GB/T 2260: provinces, and 81-83 of residence permits of Hong Kong, Macau and Taiwan; 91 foreign.
PROVINCES = frozenset(
    [str(code) for part in (range(11, 16), range(21, 24), range(31, 38), range(41, 47)) for code in part]
    + [str(code) for part in (range(50, 55), range(61, 66), (71, 81, 82, 83, 91)) for code in part]
)
_RESIDENT = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CREDIT = "0123456789ABCDEFGHJKLMNPQRTUWXY"
# Letters of Taiwan's identity numbers in the order of their two-digit codes from 10 on.
_TAIWAN = "ABCDEFGHJKLMNPQRSTUVXYWZIO"


def resident_form(number: str) -> bool:
    """GB 11643 without its check digit: a province and a date of birth."""
    return number[:2] in PROVINCES and is_date(int(number[6:10]), int(number[10:12]), int(number[12:14]))


def resident(number: str) -> bool:
    """GB 11643-1999: province, date of birth, ISO 7064 MOD 11-2 over the first 17 digits."""
    return resident_form(number) and "10X98765432"[weighted(number, _RESIDENT) % 11] == number[17]


def resident_old(number: str) -> bool:
    """The 15 digits before 1999: province and date of birth of the twentieth century."""
    return number[:2] in PROVINCES and is_date(1900 + int(number[6:8]), int(number[8:10]), int(number[10:12]))


def credit_code(number: str) -> bool:
    """GB 32100-2015: weights 3^i mod 31."""
    total = sum(_CREDIT.index(char) * pow(3, index, 31) for index, char in enumerate(number[:17]))
    return _CREDIT[-total % 31] == number[17]


def organisation_code(number: str) -> bool:
    """GB 11714: eight characters and a check of weights 3 7 9 10 5 8 4 2 mod 11."""
    check = (11 - weighted(number[:8], (3, 7, 9, 10, 5, 8, 4, 2)) % 11) % 11
    return "0123456789X"[check] == number[8]


def hong_kong(number: str) -> bool:
    """Hong Kong identity card: letters, six digits, check mod 11 (A = 10); a single letter follows a blank (36)."""
    padded = [36] * (9 - len(number)) + [int(char, 36) for char in number]
    return sum(value * (9 - index) for index, value in enumerate(padded[:8])) % 11 == -padded[8] % 11


def taiwan(number: str) -> bool:
    """Taiwan identity number: the letter's code, then weights 8 to 1 and 1."""
    code = 10 + _TAIWAN.index(number[0])
    total = code // 10 + code % 10 * 9 + weighted(number[1:9], (8, 7, 6, 5, 4, 3, 2, 1)) + int(number[9])
    return total % 10 == 0


def taiwan_company(number: str) -> bool:
    """Taiwan unified business number: digit sums of products, divisible by five; a seventh digit of 7 may add one."""
    total = sum(
        sum(divmod(int(char) * weight, 10)) for char, weight in zip(number, (1, 2, 1, 2, 1, 2, 4, 1), strict=True)
    )
    return total % 5 == 0 or (number[6] == "7" and (total + 1) % 5 == 0)


def japan(number: str) -> bool:
    """My Number: twelve digits, weights 6 5 4 3 2 7 6 5 4 3 2."""
    rest = weighted(number[:11], (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return int(number[11]) == (0 if rest <= 1 else 11 - rest)


def korea(number: str) -> bool:
    """Resident registration number: a date of birth; checks of numbers given since 2020 are random."""
    return is_short_date(number[:2], number[2:4], number[4:6])


def korea_company(number: str) -> bool:
    """Business registration number: weights 1 3 7 1 3 7 1 3 5, and the tens of the last product."""
    total = weighted(number[:9], (1, 3, 7, 1, 3, 7, 1, 3, 5)) + int(number[8]) * 5 // 10
    return -total % 10 == int(number[9])


def singapore(number: str) -> bool:
    """NRIC and FIN: weights 2 7 6 5 4 3 2, an offset by the first letter, a letter by the rest mod 11."""
    total = weighted(number[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(number[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "KLJNPQRTUWX"}.get(number[0], "XWUTRQPNMLK")
    rest = total % 11
    return letters[10 - rest if number[0] == "M" else rest] == number[8]


def thailand(number: str) -> bool:
    """Thirteen digits, weights 13 to 2."""
    return (11 - weighted(number[:12], range(13, 1, -1)) % 11) % 10 == int(number[12])


def malaysia(number: str) -> bool:
    """MyKad: twelve digits that begin with a date of birth."""
    return is_short_date(number[:2], number[2:4], number[4:6])


def indonesia(number: str) -> bool:
    """NIK: province, district, and a date of birth whose day is 40 more for women."""
    return 11 <= int(number[:2]) <= 96 and is_short_date(number[10:12], number[8:10], f"{int(number[6:8]) % 40:02}")


def aadhaar(number: str) -> bool:
    """Twelve digits that do not begin with 0 or 1, Verhoeff."""
    return number[0] not in "01" and verhoeff(number)


def gstin(number: str) -> bool:
    """India's goods and services tax number: digits base 36, alternate weights 1 and 2, sums of quotient and rest."""
    total = sum(sum(divmod(int(char, 36) * (1 + index % 2), 36)) for index, char in enumerate(number[:14]))
    return -total % 36 == int(number[14], 36)


def turkey(number: str) -> bool:
    """T.C. kimlik numarası: two check digits."""
    first = [int(char) for char in number]
    tenth = (7 * sum(first[0:9:2]) - sum(first[1:8:2])) % 10
    return number[0] != "0" and tenth == first[9] and sum(first[:10]) % 10 == first[10]


def israel(number: str) -> bool:
    """Nine digits, Luhn, filled by zeros on the left."""
    return luhn(number.zfill(9))


def egypt(number: str) -> bool:
    """Century, date of birth, governorate."""
    year = {"2": 1900, "3": 2000}.get(number[0], 0) + int(number[1:3])
    return is_date(year, int(number[3:5]), int(number[5:7])) and 1 <= int(number[7:9]) <= 88


def iran(number: str) -> bool:
    """Ten digits, weights 10 to 2."""
    rest = weighted(number[:9], range(10, 1, -1)) % 11
    return int(number[9]) == (rest if rest < 2 else 11 - rest) and len(set(number)) > 1


def kazakhstan(number: str) -> bool:
    """IIN: date of birth and a check of one of two rows of weights."""
    rest = weighted(number[:11], range(1, 12)) % 11
    if rest == 10:
        rest = weighted(number[:11], (3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2)) % 11
    return is_short_date(number[:2], number[2:4], number[4:6]) and rest == int(number[11])


def south_africa(number: str) -> bool:
    """Date of birth, citizenship, Luhn."""
    return is_short_date(number[:2], number[2:4], number[4:6]) and number[10] in "012" and luhn(number)


def tax_file_number(number: str) -> bool:
    """Australia: nine digits, weights 1 4 3 7 5 8 6 9 10, divisible by 11."""
    weights = (1, 4, 3, 7, 5, 8, 6, 9, 10) if len(number) == 9 else (10, 7, 8, 4, 6, 3, 5, 1)
    return weighted(number, weights) % 11 == 0


def australian_medicare(number: str) -> bool:
    """Ten or eleven digits, the ninth a check of weights 1 3 7 9 1 3 7 9."""
    return number[0] in "23456" and weighted(number[:8], (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(number[8])


def business_number(number: str) -> bool:
    """Australia's ABN: one from the first digit, weights 10 1 3 5 7 9 11 13 15 17 19, divisible by 89."""
    total = weighted(number, (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) - 10
    return number[0] != "0" and total % 89 == 0


def company_number(number: str) -> bool:
    """Australia's ACN: weights 8 to 1."""
    return -weighted(number[:8], range(8, 0, -1)) % 10 == int(number[8])


def inland_revenue(number: str) -> bool:
    """New Zealand's IRD number: two rows of weights."""
    padded = number.zfill(9)
    rest = -weighted(padded[:8], (3, 2, 7, 6, 5, 4, 3, 2)) % 11
    if rest == 10:
        rest = -weighted(padded[:8], (7, 4, 3, 2, 5, 2, 7, 6)) % 11
    return rest == int(padded[8])
