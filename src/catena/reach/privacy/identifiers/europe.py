"""Checks of numbers of persons and companies of Europe."""

from __future__ import annotations

from catena.reach.privacy.identifiers.arithmetic import is_date, is_short_date, luhn, mod_11_10, weighted

_SPANISH = "TRWAGMYFPDXBNJZSQVHLCKE"
_FINNISH = "0123456789ABCDEFHJKLMNPRSTUVWXY"
# Codice fiscale (DM 23 December 1976): values of characters at odd places, from 0 to 9 and A to Z.
_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_MONTHS = "ABCDEHLMPRST"


def nhs(number: str) -> bool:
    """UK NHS number: weights 10 to 2 mod 11."""
    return (11 - weighted(number[:9], range(10, 1, -1)) % 11) % 11 == int(number[9])


def utr(number: str) -> bool:
    """UK unique taxpayer reference: the first digit checks the others."""
    return "21987654321"[weighted(number[1:], (6, 7, 8, 9, 10, 5, 4, 3, 2)) % 11] == number[0]


def national_insurance(number: str) -> bool:
    """UK: prefixes that are never given are refused."""
    return number[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def british_vat(number: str) -> bool:
    """Nine digits: weights 8 to 2 and the check mod 97, or 55 more since 2010."""
    total = weighted(number[:7], range(8, 1, -1)) + int(number[7:9])
    return total % 97 == 0 or (total + 55) % 97 == 0


def german_tax(number: str) -> bool:
    """Steuer-Identifikationsnummer: one digit of the first ten stands twice or thrice, ISO 7064 MOD 11,10."""
    repeated = [count for char in set(number[:10]) if (count := number[:10].count(char)) > 1]
    return number[0] != "0" and len(repeated) == 1 and repeated[0] <= 3 and mod_11_10(number)


def german_vat(number: str) -> bool:
    """USt-IdNr.: ISO 7064 MOD 11,10."""
    return mod_11_10(number)


def german_pension(number: str) -> bool:
    """Rentenversicherungsnummer: a date of birth at the third digit, sums of digits, weights 2 1 2 5 7 1 2 1 …"""
    plain = number[:8] + f"{int(number[8], 36) - 9:02}" + number[9:]
    total = sum(
        sum(divmod(int(char) * weight, 10))
        for char, weight in zip(plain[:11], (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=False)
    )
    return 1 <= int(number[4:6]) <= 12 and total % 10 == int(plain[11])


def french_insurance(number: str) -> bool:
    """NIR: 97 less the rest of the first 13 (2A as 19, 2B as 18)."""
    body = number[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(number[13:])


def siren(number: str) -> bool:
    """SIREN or SIRET: Luhn."""
    return luhn(number) and len(set(number)) > 1


def french_vat(number: str) -> bool:
    """Two digits are 12 + 3 (SIREN mod 97) mod 97."""
    return not number[:2].isdigit() or (12 + 3 * (int(number[2:]) % 97)) % 97 == int(number[:2])


def dni(number: str) -> bool:
    """Spain, persons: a letter by the number mod 23; X, Y and Z of foreigners are 0, 1 and 2."""
    plain = number[:-1].translate(str.maketrans("XYZ", "012"))
    return plain.isdigit() and _SPANISH[int(plain) % 23] == number[-1]


def cif(number: str) -> bool:
    """Spain, companies: a sum like Luhn's gives a digit or a letter."""
    body = number[1:8]
    total = sum(int(char) for char in body[1::2])
    total += sum(sum(divmod(int(char) * 2, 10)) for char in body[0::2])
    return number[8] in (str(-total % 10), "JABCDEFGHI"[-total % 10])


def fiscal_code(number: str) -> bool:
    """Codice fiscale: a month letter, a day (40 more for women), a letter by odd and even values mod 26."""
    plain = number.translate(str.maketrans("LMNPQRSTUV", "0123456789"))
    day = plain[9:11]
    if number[8] not in _MONTHS or not day.isdigit() or not 1 <= int(day) % 40 <= 31:
        return False
    total = 0
    for index, char in enumerate(number[:15]):
        value = int(char) if char.isdigit() else ord(char) - 65
        total += value if index % 2 else _ODD[value]
    return chr(65 + total % 26) == number[15]


def eleven_proof(number: str) -> bool:
    """Dutch BSN: weights 9 to 2 and -1, divisible by 11."""
    padded = number.zfill(9)
    return int(padded) > 0 and (weighted(padded[:8], range(9, 1, -1)) - int(padded[8])) % 11 == 0


def belgian(number: str) -> bool:
    """Rijksregisternummer: 97 less the first nine mod 97, with a 2 in front for those born since 2000."""
    body, check = number[:9], int(number[9:])
    return int(number[2:4]) % 20 <= 12 and check in (97 - int(body) % 97, 97 - int("2" + body) % 97)


def belgian_company(number: str) -> bool:
    """Ten digits: 97 less the first eight mod 97."""
    return number[0] in "01" and (int(number[:8]) + int(number[8:])) % 97 == 0


def pesel(number: str) -> bool:
    """Poland: a date whose month carries the century, weights 1 3 7 9."""
    month = int(number[2:4])
    century = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[month // 20]
    total = weighted(number[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3))
    return is_date(century + int(number[:2]), month % 20, int(number[4:6])) and -total % 10 == int(number[10])


def nip(number: str) -> bool:
    """Poland's tax number: weights 6 5 7 2 3 4 5 6 7."""
    return weighted(number[:9], (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(number[9])


def regon(number: str) -> bool:
    """Poland's company number: weights 8 9 2 3 4 5 6 7."""
    return weighted(number[:8], (8, 9, 2, 3, 4, 5, 6, 7)) % 11 % 10 == int(number[8])


def swedish(number: str) -> bool:
    """Personnummer: a date (days of coordination numbers are 60 more) and Luhn over ten digits."""
    ten = number[-10:]
    return is_short_date(ten[:2], ten[2:4], f"{int(ten[4:6]) % 60:02}") and luhn(ten)


def swedish_company(number: str) -> bool:
    """Organisationsnummer: the third digit is at least 2, Luhn."""
    return int(number[2]) >= 2 and luhn(number)


def norwegian(number: str) -> bool:
    """Fødselsnummer: date of birth (day 40 more: D-number) and two checks mod 11."""
    first = -weighted(number[:9], (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    second = -weighted(number[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    is_day = is_short_date(number[4:6], f"{int(number[2:4]) % 40:02}", f"{int(number[:2]) % 40:02}")
    return is_day and first == int(number[9]) and second == int(number[10])


def danish(number: str) -> bool:
    """CPR: a date of birth; the check mod 11 ended in 2007."""
    return is_short_date(number[4:6], number[2:4], number[:2])


def finnish(number: str) -> bool:
    """Henkilötunnus: date of birth, and a character by the nine digits mod 31."""
    digits = number[:6] + number[-4:-1]
    return is_short_date(number[4:6], number[2:4], number[:2]) and _FINNISH[int(digits) % 31] == number[-1]


def icelandic(number: str) -> bool:
    """Kennitala: date of birth, weights 3 2 7 6 5 4 3 2."""
    check = -weighted(number[:8], (3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return is_short_date(number[4:6], number[2:4], f"{int(number[:2]) % 40:02}") and check == int(number[8])


def portuguese(number: str) -> bool:
    """NIF: weights 9 to 2."""
    rest = 11 - weighted(number[:8], range(9, 1, -1)) % 11
    return number[0] in "1235689" and (0 if rest >= 10 else rest) == int(number[8])


def ean_13(number: str) -> bool:
    """AHV number of Switzerland: weights 1 and 3."""
    return -weighted(number[:12], (1, 3) * 6) % 10 == int(number[12])


def swiss_company(number: str) -> bool:
    """UID: weights 5 4 3 2 7 6 5 4."""
    return (11 - weighted(number[-9:-1], (5, 4, 3, 2, 7, 6, 5, 4)) % 11) % 11 == int(number[-1])


def austrian(number: str) -> bool:
    """Versicherungsnummer: weights 3 7 9 0 5 8 4 2 1 6 give the fourth digit; then a date of birth."""
    check = weighted(number, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11
    return int(number[6:8]) <= 12 + 3 and 1 <= int(number[4:6]) <= 31 and check == int(number[3])


def irish(number: str) -> bool:
    """PPS number: weights 8 to 2, and 9 for a second letter, mod 23."""
    total = weighted(number[:7], range(8, 1, -1))
    if len(number) == 9 and number[8] != "W":
        total += 9 * (ord(number[8]) - 64)
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == number[7]


def greek(number: str) -> bool:
    """AFM: powers of two mod 11."""
    return sum(int(char) << (8 - index) for index, char in enumerate(number[:8])) % 11 % 10 == int(number[8])


def greek_insurance(number: str) -> bool:
    """AMKA: date of birth and Luhn."""
    return is_short_date(number[4:6], number[2:4], number[:2]) and luhn(number)


def birth_number(number: str) -> bool:
    """Rodné číslo of Czechia and Slovakia: month 50 more for women, ten digits divisible by 11."""
    is_day = is_short_date(number[:2], f"{int(number[2:4]) % 50 % 20:02}", number[4:6])
    return is_day and (len(number) == 9 or int(number) % 11 == 0 or int(number[:9]) % 11 % 10 == int(number[9]))


def czech_company(number: str) -> bool:
    """IČO: weights 8 to 2."""
    return (11 - weighted(number[:7], range(8, 1, -1)) % 11) % 10 == int(number[7])


def hungarian_insurance(number: str) -> bool:
    """TAJ: weights 3 and 7."""
    return weighted(number[:8], (3, 7) * 4) % 10 == int(number[8])


def hungarian_tax(number: str) -> bool:
    """Adóazonosító jel: begins with 8, weights 1 to 9."""
    return number[0] == "8" and weighted(number[:9], range(1, 10)) % 11 == int(number[9])


def romanian(number: str) -> bool:
    """CNP: sex and century, date of birth, weights 2 7 9 1 4 6 3 5 8 2 7 9."""
    check = weighted(number[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return is_short_date(number[1:3], number[3:5], number[5:7]) and (1 if check == 10 else check) == int(number[12])


def romanian_company(number: str) -> bool:
    """CUI: weights 7 5 3 2 1 7 5 3 2 from the left of nine."""
    total = weighted(number[:-1].zfill(9), (7, 5, 3, 2, 1, 7, 5, 3, 2))
    return total * 10 % 11 % 10 == int(number[-1])


def bulgarian(number: str) -> bool:
    """EGN: month 20 or 40 more by century, weights 2 4 8 5 10 9 7 3 6."""
    month = int(number[2:4]) % 20
    check = weighted(number[:9], (2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 % 10
    return is_short_date(number[:2], f"{month:02}", number[4:6]) and check == int(number[9])


def master_citizen(number: str) -> bool:
    """JMBG and EMŠO of the former Yugoslavia: date of birth of three-digit year, weights 7 to 2 twice."""
    year = int(number[4:7])
    total = weighted(number[:12], (7, 6, 5, 4, 3, 2) * 2)
    is_day = is_date(year + (1000 if year > 800 else 2000), int(number[2:4]), int(number[:2]))
    return is_day and -total % 11 % 10 == int(number[12])


def baltic(number: str) -> bool:
    """Isikukood of Estonia and asmens kodas of Lithuania: date of birth, two rows of weights."""
    rest = weighted(number[:10], (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if rest == 10:
        rest = weighted(number[:10], (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return is_short_date(number[1:3], number[3:5], number[5:7]) and rest == int(number[10])


def russian_tax(number: str) -> bool:
    """INN: ten digits of companies, twelve of persons."""
    if len(number) == 10:
        return weighted(number[:9], (2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10 == int(number[9])
    first = weighted(number[:10], (7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10
    second = weighted(number[:11], (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10
    return first == int(number[10]) and second == int(number[11])


def snils(number: str) -> bool:
    """Russia's insurance number: weights 9 to 1 mod 101."""
    return weighted(number[:9], range(9, 0, -1)) % 101 % 100 == int(number[9:])


def ogrn(number: str) -> bool:
    """Russia's register number: 13 digits mod 11, 15 of entrepreneurs mod 13."""
    return int(number[:-1]) % (11 if len(number) == 13 else 13) % 10 == int(number[-1])


def ukrainian(number: str) -> bool:
    """RNOKPP: weights -1 5 7 9 4 6 10 5 7."""
    return weighted(number[:9], (-1, 5, 7, 9, 4, 6, 10, 5, 7)) % 11 % 10 == int(number[9])
