"""The registry renders what Prometheus reads, bounds its labels, and costs next to nothing."""

from __future__ import annotations

import pytest

from catena.watch.metrics import MAX_SERIES, Registry


def test_counters_gauges_and_histograms_are_rendered_in_text_format() -> None:
    registry = Registry()
    registry.counter("catena_reach_requests_total", "Requests.", ("route", "status")).labels('/"a"\n', "200").add(2)
    gauge = registry.gauge("catena_run_queue_length", "Waiting.").labels()
    gauge.set(3)
    gauge.add(-1)
    histogram = registry.histogram("catena_reach_wait_seconds", "Waits.", ("door",), (0.1, 1)).labels("x")
    for value in (0.05, 0.1, 0.5, 7):
        histogram.observe(value)
    assert registry.render() == (
        "# HELP catena_reach_requests_total Requests.\n"
        "# TYPE catena_reach_requests_total counter\n"
        'catena_reach_requests_total{route="/\\"a\\"\\n",status="200"} 2\n'
        "# HELP catena_reach_wait_seconds Waits.\n"
        "# TYPE catena_reach_wait_seconds histogram\n"
        'catena_reach_wait_seconds_bucket{door="x",le="0.1"} 2\n'
        'catena_reach_wait_seconds_bucket{door="x",le="1"} 3\n'
        'catena_reach_wait_seconds_bucket{door="x",le="+Inf"} 4\n'
        'catena_reach_wait_seconds_sum{door="x"} 7.65\n'
        'catena_reach_wait_seconds_count{door="x"} 4\n'
        "# HELP catena_run_queue_length Waiting.\n"
        "# TYPE catena_run_queue_length gauge\n"
        "catena_run_queue_length 2\n"
    )


def test_a_gauge_can_follow_a_function() -> None:
    registry = Registry()
    registry.gauge("catena_run_sessions_open", "Open.").labels().follow(lambda: 1.5)
    assert registry.render().endswith("catena_run_sessions_open 1.5\n")


def test_a_flood_of_label_values_ends_in_one_series() -> None:
    registry = Registry()
    family = registry.counter("catena_reach_requests_total", "Requests.", ("route",))
    for number in range(MAX_SERIES + 1000):
        family.labels(f"/{number}").add()
    lines = [line for line in registry.render().splitlines() if not line.startswith("#")]
    assert len(lines) == MAX_SERIES + 1
    assert 'catena_reach_requests_total{route="other"} 1000' in lines


@pytest.mark.parametrize(
    "name", ["requests_total", "catena_requests_total", "catena_reach_Requests_total", "catena_reach_x"]
)
def test_names_that_do_not_follow_the_rule_are_our_bug(name: str) -> None:
    with pytest.raises(AssertionError):
        Registry().counter(name, "x")


def test_a_name_is_registered_once() -> None:
    registry = Registry()
    registry.gauge("catena_run_x_bytes", "x")
    with pytest.raises(AssertionError, match="twice"):
        registry.gauge("catena_run_x_bytes", "x")
