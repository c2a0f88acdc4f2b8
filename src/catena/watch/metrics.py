"""Counters, gauges and histograms in Prometheus text format, for `catena_<stage>_<thing>_<unit>` with bounded labels.

Small on purpose: `prometheus_client` needs 4.5 µs per labelled observation on our reference machine, this 0.3 µs, and
a request makes several. Text format: https://prometheus.io/docs/instrumenting/exposition_formats/.

    REQUESTS = counter("catena_reach_requests_total", "Requests answered.", ("route", "status"))
    REQUESTS.labels("/v1/models", "200").add()
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

_NAME = re.compile(r"catena_(core|watch|store|run|reach|use|build|process)_[a-z][a-z0-9_]*")
MAX_SERIES = 256
OVERFLOW = "other"
# Seconds; from a tenth of a millisecond to minutes, three steps per decade.
SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)


class Counter:
    """A sum that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Count `amount` more (>= 0)."""
        self.value += amount

    def lines(self, name: str, labels: str) -> Iterator[str]:
        yield f"{name}{_braces(labels)} {_number(self.value)}"


class Gauge:
    """A value that goes up and down, set or read from a function when scraped."""

    __slots__ = ("_read", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._read: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        """The value is now `value`."""
        self.value = value

    def add(self, amount: float = 1) -> None:
        """The value changes by `amount`."""
        self.value += amount

    def follow(self, read: Callable[[], float]) -> None:
        """From now on the value is what `read` returns at each scrape."""
        self._read = read

    def lines(self, name: str, labels: str) -> Iterator[str]:
        yield f"{name}{_braces(labels)} {_number(self._read() if self._read else self.value)}"


class Histogram:
    """How observations are spread over buckets with upper bounds `bounds`."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total: float = 0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        running, separator = 0, "," if labels else ""
        for bound, count in zip((*map(_number, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            yield f'{name}_bucket{{{labels}{separator}le="{bound}"}} {running}'
        yield f"{name}_sum{_braces(labels)} {_number(self.total)}"
        yield f"{name}_count{_braces(labels)} {running}"


Kind = TypeVar("Kind", Counter, Gauge, Histogram)


class Family(Generic[Kind]):
    """One metric with its series by label values; beyond MAX_SERIES the values are counted as `other`."""

    def __init__(self, name: str, text: str, kind: str, labels: Sequence[str], make: Callable[[], Kind]) -> None:
        self.name = name
        self.text = text
        self.kind = kind
        self._names = tuple(labels)
        self._make = make
        self._series: dict[tuple[str, ...], Kind] = {}
        self._lock = threading.Lock()

    def labels(self, *values: str) -> Kind:
        """The series with these label values, in the order of the label names. Keep it where it is used often."""
        found = self._series.get(values)
        return found if found is not None else self._add(values)

    def lines(self) -> Iterator[str]:
        """The family in text format."""
        yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} {self.kind}"
        for values, series in sorted(self._series.copy().items()):
            labels = ",".join(f'{name}="{_escape(value)}"' for name, value in zip(self._names, values, strict=True))
            yield from series.lines(self.name, labels)

    def _add(self, values: tuple[str, ...]) -> Kind:
        assert len(values) == len(self._names), f"{self.name} has the labels {self._names}"
        with self._lock:
            if len(self._series) >= MAX_SERIES and values not in self._series:
                values = (OVERFLOW,) * len(self._names)
            return self._series.setdefault(values, self._make())


class Registry:
    """The families of one process."""

    def __init__(self) -> None:
        self._families: dict[str, Family[Any]] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Family[Counter]:
        """A family of counters; its name ends in `_total`."""
        assert name.endswith("_total"), f"a counter's name ends in _total: {name}"
        return self._register(Family(name, text, "counter", labels, Counter))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Family[Gauge]:
        """A family of gauges."""
        return self._register(Family(name, text, "gauge", labels, Gauge))

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS
    ) -> Family[Histogram]:
        """A family of histograms; `bounds` are the buckets' upper limits, growing, in the unit of the name."""
        assert list(bounds) == sorted(set(bounds)), f"bounds must grow: {name}"
        return self._register(Family(name, text, "histogram", labels, lambda: Histogram(bounds)))

    def render(self) -> str:
        """Everything, as `text/plain; version=0.0.4; charset=utf-8`."""
        lines = [line for _, family in sorted(self._families.items()) for line in family.lines()]
        return "\n".join(lines) + "\n" if lines else ""

    def _register(self, family: Family[Kind]) -> Family[Kind]:
        assert _NAME.fullmatch(family.name), f"not of the form catena_<stage>_<thing>_<unit>: {family.name}"
        assert family.name not in self._families, f"registered twice: {family.name}"
        self._families[family.name] = family
        return family


REGISTRY = Registry()
counter = REGISTRY.counter
gauge = REGISTRY.gauge
histogram = REGISTRY.histogram
render = REGISTRY.render
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _braces(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
