"""What every dialect shares: naming what is lost, and giving a provider's refusals their place in the error tree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from catena.core.errors import (
    BusyError,
    CatenaError,
    ExpiredError,
    InputError,
    NetworkError,
    NotFoundError,
    ProviderError,
    TooLargeError,
)
from catena.core.messages import ChatRequest, CompletionRequest, Sampling, Tool
from catena.run.dialects.dialect import lost, refusal, retry_after_s


def test_only_what_was_wished_and_is_not_carried_is_lost() -> None:
    sampling = Sampling(max_tokens=5, temperature=0.5, top_k=3, seed=0, stop=("x",), logit_bias={1: -1.0})
    request = CompletionRequest("m", "text", sampling)
    assert lost(request, {"temperature", "seed"}) == ("sampling.top_k", "sampling.logit_bias")
    assert lost(CompletionRequest("m", "text"), ()) == ()


def test_thinking_and_one_call_at_a_time_are_wishes_too() -> None:
    request = ChatRequest("m", (), tools=(Tool("f"),), parallel_tool_calls=False, think=False)
    assert lost(request, ()) == ("think", "parallel_tool_calls")
    assert lost(request, ("think", "parallel_tool_calls")) == ()
    assert lost(ChatRequest("m", (), parallel_tool_calls=False), ()) == ()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, NetworkError),
        (400, InputError),
        (401, ProviderError),
        (402, ProviderError),
        (403, ProviderError),
        (404, NotFoundError),
        (408, ExpiredError),
        (413, TooLargeError),
        (422, InputError),
        (429, BusyError),
        (500, NetworkError),
        (503, NetworkError),
        (504, ExpiredError),
        (529, BusyError),
    ],
)
def test_each_status_of_a_provider_has_its_error(status: int, kind: type[CatenaError]) -> None:
    assert type(refusal(status, {})) is kind


def test_a_refused_key_is_for_the_operator_and_no_fault_of_the_caller() -> None:
    error = refusal(401, {}, "invalid_api_key")
    assert error.code == "provider_refused" and "(invalid_api_key)" in error.message and "key_env" in error.hint


def test_only_a_word_of_the_provider_is_ever_shown() -> None:
    assert "sk-" not in str(refusal(400, {}, "Incorrect key sk-123 provided"))
    assert "\n" not in str(refusal(400, {}, "two\nlines"))


def test_a_busy_provider_says_for_how_long_in_seconds_milliseconds_or_as_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert retry_after_s({"retry-after": "7"}) == 7
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    assert 80 < retry_after_s({"retry-after": soon}) <= 90
    assert retry_after_s({"retry-after": "soon"}) == retry_after_s({}) == 1
    assert retry_after_s({"retry-after": "999999999"}) == 3600
    error = refusal(429, {"retry-after": "7"})
    assert isinstance(error, BusyError) and error.retry_after_s == 7
