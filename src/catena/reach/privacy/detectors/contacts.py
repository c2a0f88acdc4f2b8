"""E-mail addresses, phone numbers, network addresses, and secrets that a field or their form gives away."""

from __future__ import annotations

from collections.abc import Iterator

import re2

from catena.reach.privacy.spans import Span

_options = re2.Options()
_options.log_errors = False
# Kind, score, pattern; the first group, where there is one, is what is private.
PATTERNS: tuple[tuple[str, float, str], ...] = (
    ("email", 0.99, r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+[A-Za-z]{2,24}"),
    ("phone", 0.95, r"(?:\+?86[ -]?)?\b1[3-9]\d[ -]?\d{4}[ -]?\d{4}\b"),
    ("phone", 0.9, r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){1,4}\b"),
    ("phone", 0.85, r"\(\d{3}\) ?\d{3}-\d{4}\b|\b\d{3}-\d{3}-\d{4}\b|\b0\d{2,3}-\d{7,8}\b"),
    ("social_security", 0.9, r"\b\d{3}-\d{2}-\d{4}\b"),
    ("ip_address", 0.9, r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b"),
    ("mac_address", 0.95, r"\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b"),
    ("medical_record", 0.9, r"\bMRN[-: ]*\d{5,10}\b"),
    ("api_key", 0.97, r"\b(?:sk|pk|rk|ghp|gho|ghs|glpat|xox[abprs]|hf|npm|AKIA|ASIA|AIza)[-_]?[0-9A-Za-z_-]{16,}\b"),
    ("private_key", 0.99, r"-----BEGIN [A-Z ]*PRIVATE KEY-----[0-9A-Za-z+/=\s]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"),
    ("credential_url", 0.97, r"[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,100}:[^\s@/]{1,100}@[^\s/]+"),
    (
        "password",
        0.9,
        r"(?i)(?:pass(?:word|wd|phrase)?|pwd|secret|api_?key|token|密码|口令|密钥)"
        r"[\"']?(?:\s*[:=：]+\s*| is |是)[\"']?([^\s\"',;，。]{4,100})",
    ),
)
_COMPILED = [(kind, score, re2.compile(pattern, _options)) for kind, score, pattern in PATTERNS]
# Resident identity numbers of China, GB 11643-1999: weights of the first 17 digits, and the check by their sum mod 11.
_RESIDENT = re2.compile(r"\d{17}[0-9Xx]", _options)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def find(text: str) -> Iterator[Span]:
    """Spans of all these kinds."""
    for kind, score, pattern in _COMPILED:
        for match in pattern.finditer(text):
            group = 1 if pattern.groups else 0
            yield Span(match.start(group), match.end(group), kind, score)
    for match in _RESIDENT.finditer(text):
        number = str(match[0])
        if (
            "10X98765432"[sum(int(digit) * weight for digit, weight in zip(number, _WEIGHTS, strict=False)) % 11]
            == number[17].upper()
        ):
            yield Span(match.start(), match.end(), "national_id", 0.99)
