"""What the official OpenAI client must find at a running `catena up`: responses kept, and made in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.clients.conftest import Gateway, requirement, up
from tests.clients.test_openai_responses import ECHO, LONG, SHORT, ended, refused
from tests.conftest import copied

pytestmark = pytest.mark.model
KEPT, BACKGROUND = "responses: kept", "responses: background"


@requirement("S41", KEPT, "`retrieve` gives a response as it was answered; with `store` false there is nothing to give")
def test_retrieve(client: openai.OpenAI) -> None:
    answer = client.responses.create(**SHORT)
    assert client.responses.retrieve(answer.id) == answer
    other = client.responses.create(**SHORT, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(other.id)


@requirement("S42", KEPT, "`previous_response_id` goes on from a response and all before it, without its instructions")
def test_previous(client: openai.OpenAI) -> None:
    first = client.responses.create(**ECHO, instructions="Be very brief indeed.")
    second = client.responses.create(model="echo", input="four", previous_response_id=first.id)
    third = client.responses.create(model="echo", input="five", previous_response_id=second.id)
    assert second.previous_response_id == first.id
    assert [one.usage.input_tokens for one in (first, second, third)] == [7, 7, 9]  # type: ignore[union-attr]


@requirement("S43", KEPT, "an unknown `previous_response_id` is refused")
def test_unknown_previous(client: openai.OpenAI) -> None:
    error = refused(client, previous_response_id="resp_nope")
    assert (error.param, error.code) == ("previous_response_id", "previous_response_not_found")


@requirement("S44", KEPT, "`delete` deletes: neither found nor gone on from afterwards")
def test_delete(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ECHO)
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(answer.id)
    assert refused(client, previous_response_id=answer.id).code == "previous_response_not_found"


@requirement("S45", KEPT, "`input_items.list` turns the pages of what was sent, in either order")
def test_input_items(client: openai.OpenAI) -> None:
    given: Any = [{"role": "user", "content": str(number)} for number in range(5)]
    answer = client.responses.create(model="echo", input=given)
    for order, meant in (("asc", ["0", "1", "2", "3", "4"]), ("desc", ["4", "3", "2", "1", "0"])):
        pages = client.responses.input_items.list(answer.id, order=order, limit=2)  # type: ignore[arg-type]
        assert [item.content[0].text for item in pages] == meant  # type: ignore[union-attr]


@requirement("S46", KEPT, "an `item_reference` stands for the item of a kept response")
def test_item_reference(client: openai.OpenAI) -> None:
    first = client.responses.create(**ECHO)
    given: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "four"}]
    answer = client.responses.create(model="echo", input=given)
    assert answer.usage is not None
    assert answer.usage.input_tokens == 4


@requirement("S51", BACKGROUND, "a response in the background comes back queued, and is polled until it is completed")
def test_background(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ECHO, background=True)
    assert (answer.status, answer.background, answer.output) == ("queued", True, [])
    done = ended(client, answer.id)
    assert done.output_text == client.responses.create(**ECHO).output_text


@requirement("S52", BACKGROUND, "a stream of the background tells of the queue, and is resumed after any event")
def test_background_stream(client: openai.OpenAI) -> None:
    seen: list[Any] = []
    with client.responses.create(**SHORT, background=True, stream=True) as stream:
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    assert [event.type for event in seen[:3]] == ["response.created", "response.queued", "response.in_progress"]
    id = seen[0].response.id
    rest = list(client.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number))
    numbers = [event.sequence_number for event in [*seen, *rest]]
    assert numbers == list(range(len(numbers)))
    assert rest[-1].type == "response.incomplete"
    again = list(client.responses.retrieve(id, stream=True))
    assert [event.sequence_number for event in again] == numbers


@requirement("S53", BACKGROUND, "`responses.stream` resumes a response by its id")
def test_resumed_by_the_helper(client: openai.OpenAI) -> None:
    id = ""
    for event in client.responses.create(**ECHO, background=True, stream=True):
        if event.type == "response.created":
            id = event.response.id
    with client.responses.stream(response_id=id, starting_after=5) as stream:
        numbers = [event.sequence_number for event in stream]
        assert stream.get_final_response().output_text == "one two three"
    assert numbers[0] == 6


@requirement("S54", BACKGROUND, "`cancel` stops the work; the response is `cancelled`, and so is its record")
def test_cancel(client: openai.OpenAI, gateway: Gateway) -> None:
    answer = client.responses.create(**LONG, background=True)
    cancelled = client.responses.cancel(answer.id)
    assert (cancelled.id, cancelled.status) == (answer.id, "cancelled")
    assert client.responses.retrieve(answer.id).status == "cancelled"
    assert gateway.record("rcpt_" + answer.id.removeprefix("resp_"))["outcome"] == "cancelled"


@requirement("S55", BACKGROUND, "a response that was not made in the background cannot be cancelled")
def test_cancel_in_the_foreground(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(client.responses.create(**ECHO).id)


@requirement("S56", BACKGROUND, "what runs in the background needs `store`")
def test_background_needs_store(client: openai.OpenAI) -> None:
    assert refused(client, background=True, store=False).param == "background"


@requirement("S57", BACKGROUND, "a kill loses no completed response, and leaves none in progress for ever")
def test_a_kill(models_home: Path, tmp_path: Path) -> None:
    home = copied(models_home, tmp_path / "home")
    with up(home, "--echo") as dying, dying.client() as client:
        done = ""
        for event in client.responses.create(**ECHO, stream=True):
            done = event.response.id if event.type == "response.completed" else done
            plain = client.responses.create(**LONG, background=True)
        with client.responses.create(**LONG, background=True, stream=True) as stream:
            streamed = next(iter(stream)).response.id  # type: ignore[union-attr]
        dying.process.kill()
        dying.process.wait()
    with up(home, "--echo") as next_one, next_one.client() as client:
        assert client.responses.retrieve(done).output_text == "one two three"
        for id in (plain.id, streamed):
            failed = client.responses.retrieve(id)
            assert failed.status == "failed"
            assert failed.error is not None
            assert failed.error.code == "server_error"
        with pytest.raises(openai.APIError):
            list(client.responses.retrieve(streamed, stream=True))


@requirement("S58", BACKGROUND, "a stop leaves what could not be finished as failed, with a closed record")
def test_a_stop(models_home: Path, tmp_path: Path) -> None:
    home = copied(models_home, tmp_path / "home")
    with up(home, CATENA__REACH__DRAIN_S="0.1") as stopping, stopping.client() as client:
        answer = client.responses.create(**LONG, background=True)
    with up(home) as next_one, next_one.client() as client:
        assert client.responses.retrieve(answer.id).status == "failed"
        assert next_one.record("rcpt_" + answer.id.removeprefix("resp_"))["outcome"] == "cancelled"


@requirement("S47", KEPT, "what was asked and answered shows in no metric, receipt or status")
def test_content_stays_private(gateway: Gateway, client: openai.OpenAI) -> None:
    client.responses.create(model="echo", input="zebra-4711", metadata={"a": "giraffe-4711"})
    for path in ("/metrics", "/catena/v1/receipts", "/catena/v1/status"):
        shown = httpx2.get(gateway.url + path, timeout=10).text
        # Whole words: four digits stand in a digest now and then.
        assert "zebra-4711" not in shown and "giraffe" not in shown
