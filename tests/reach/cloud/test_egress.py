"""What leaves is in the audit log before it leaves: every byte of it, every attempt, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.abc
import pytest
from tests.providers.answers import Answer
from tests.providers.tap import Tap, tap
from tests.reach.cloud.conftest import KEY, Make, Place, asking
from tests.reach.cloud.recording import Heard
from tests.reach.cloud.test_client import OK, raw

from catena.core.errors import AuditError, CatenaError, IntegrityError, NotFoundError, RefusedError
from catena.core.messages import Egress, EmbedRequest, collect
from catena.core.settings import ProviderSettings, ReachSettings
from catena.reach.cloud.cloud import Cloud
from catena.reach.cloud.departure import Departure, Unrecorded, Way, departing, hidden
from catena.reach.cloud.gate import Gate
from catena.reach.egress.keeping import Shelf, path_of
from catena.reach.ticket import Caller, salted_digest
from catena.reach.vault import Vault
from catena.run.dialects.dialect import Outgoing

pytestmark = pytest.mark.anyio


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    opened = Vault.open(tmp_path, ReachSettings())
    yield opened
    opened.close()


def behind(place: Place, tapped: Tap, keeper: Shelf | None = None, host: str = "127.0.0.1") -> Cloud:
    """The place's provider, reached through `tapped`."""
    url = place.made.url.replace(f"127.0.0.1:{place.made.port}", f"{host}:{tapped.port}")
    place.cloud = Cloud(
        [ProviderSettings("far", "openai", url, key_env="FAR_KEY", allow_plain_http=True)], {"FAR_KEY": KEY}, keeper
    )
    place.router.cloud = place.cloud
    return place.cloud


def left(place: Place) -> list[Egress]:
    return [record for record in place.log.records if isinstance(record, Egress)]  # type: ignore[misc]


async def ask(place: Place, text: str = "Hi") -> str:
    async with place.router.generate(asking(text=text), Caller()) as answer:
        await collect(answer.events)
    return answer.receipt


@pytest.mark.parametrize("size", [2, 3_000_000], ids=["small", "large"])
async def test_the_record_is_of_every_byte_that_a_tap_sees(make: Make, size: int) -> None:
    place = make()
    with tap(place.made.port) as tapped:
        cloud = behind(place, tapped)
        receipt = await ask(place, "x" * size)
        await cloud.close()
        (record,), salt, out = left(place), place.salts.salt(receipt), bytes(tapped.out)
        key = salted_digest(salt, KEY.encode())
        assert f"Bearer {KEY}".encode() in out and len(out) > size
        assert record.digest == salted_digest(salt, out.replace(KEY.encode(), key.encode()))
        assert (record.num_bytes, record.serial, record.kind) == (len(out), 1, "request")
        assert record.host == f"127.0.0.1:{tapped.port}" and record.certificate is None
        assert record.lookups == () and record.rules == ("everything",) and record.policy.startswith("sha256:")
        closed = place.log.closed
        assert (closed.received_bytes, closed.departures) == (len(tapped.back), 1)
        assert closed.received_digest == salted_digest(salt, bytes(tapped.back))


async def test_nothing_has_left_when_the_record_is_written_and_nothing_leaves_without_it(make: Make) -> None:
    place = make()
    with tap(place.made.port) as tapped:
        cloud, seen, append = behind(place, tapped), list[int](), place.log.append

        async def watching(record: object, /) -> int:
            if isinstance(record, Egress):
                tapped.arrived.wait(0.2)
                seen.append(len(tapped.out))
                if len(seen) > 1:
                    raise AuditError("the disk is full")
            return await append(record)  # type: ignore[arg-type]

        place.log.append = watching  # type: ignore[method-assign,assignment]
        await ask(place)
        num_bytes = len(tapped.out)
        assert seen == [0] and num_bytes > 100
        with pytest.raises(AuditError, match="disk is full"):
            await ask(place)
        with pytest.raises(AuditError, match="disk is full"):
            await place.router.embed(EmbedRequest("far/big", ("a",)), Caller())
        await cloud.close()
        assert len(tapped.out) == num_bytes


async def test_names_that_were_looked_up_are_counted_also_where_nobody_was_there(make: Make) -> None:
    place, other = make(), make()
    with tap(place.made.port) as tapped:
        cloud = behind(place, tapped, host="localhost")
        await ask(place)
        await cloud.close()
        assert left(place)[0].lookups == ("localhost",) and left(place)[0].address == f"127.0.0.1:{tapped.port}"
    cloud = behind(other, tapped, host="localhost")  # which has ended
    with pytest.raises(CatenaError):
        await ask(other)
    await cloud.close()
    assert (left(other), other.log.closed.lookups, other.log.closed.received_digest) == ([], ("localhost",), None)


async def test_each_attempt_is_a_record_of_its_own() -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        await stream.receive()
        await stream.send(OK)
        await stream.receive()  # and goes without an answer

    heard = Heard()
    async with raw(serve) as client:
        for _ in range(2):
            async with client.ask(Outgoing("/x", b"{}"), {}, heard) as answer:
                assert await answer.body(9) == b"ok"
    assert [way.kind for way, _ in heard.left] == ["request"] * 3
    assert len({wire for _, wire in heard.left}) == 1 and heard.back == OK + OK


async def test_the_bytes_are_kept_where_that_is_wanted_and_any_change_of_them_is_found(
    make: Make, tmp_path: Path, vault: Vault
) -> None:
    place, shelf = make(), Shelf(tmp_path, vault)
    with tap(place.made.port) as tapped:
        cloud = behind(place, tapped, shelf)
        receipt = await ask(place, "a quite particular question")
        first = len(tapped.out)
        await ask(place)
        await cloud.close()
    one, two = left(place)
    salt = place.salts.salt(receipt)
    shown = shelf.read(one)
    assert shown == bytes(tapped.out[:first]).replace(KEY.encode(), salted_digest(salt, KEY.encode()).encode())
    assert path_of(tmp_path, one).is_file() and salted_digest(salt, shown) == one.digest
    files = sorted(path for path in (tmp_path / "egress").rglob("*") if path.is_file())
    assert len(files) == 2 and all(path.stat().st_mode & 0o77 == 0 for path in files)
    assert not any(b"particular" in path.read_bytes() or KEY.encode() in path.read_bytes() for path in files)
    path = next(path for path in files if path.name == f"{one.receipt}.1")
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        path.write_bytes(data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :])
        with pytest.raises(IntegrityError, match="was changed"):
            shelf.read(one)
    path.write_bytes(next(other for other in files if other != path).read_bytes())
    with pytest.raises(IntegrityError):
        shelf.read(one)
    path.unlink()
    with pytest.raises(NotFoundError, match="not kept"):
        shelf.read(one)
    assert shelf.read(two)


async def test_without_a_copy_that_is_wanted_nothing_leaves(make: Make, tmp_path: Path, vault: Vault) -> None:
    place = make()
    (tmp_path / "egress").write_text("no folder")
    with tap(place.made.port) as tapped:
        cloud = behind(place, tapped, Shelf(tmp_path, vault))
        with pytest.raises(AuditError, match="cannot be kept"):
            await ask(place)
        await cloud.close()
        assert not tapped.out


async def test_a_cut_answer_counts_what_came(make: Make) -> None:
    place = make()
    place.made.say(Answer(text=("one ", "two ", "three "), cut_after=2))
    with tap(place.made.port) as tapped:
        cloud = behind(place, tapped)
        async with place.router.generate(asking(), Caller()) as answer:
            await anext(aiter(answer.events))
        await cloud.close()
        closed = place.log.closed
        assert 0 < closed.received_bytes <= len(tapped.back) and closed.departures == 1
        head = bytes(tapped.back[: closed.received_bytes])
        assert closed.received_digest == salted_digest(place.salts.salt(answer.receipt), head)


class Wire:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.written = b""
        self.is_aborted = False

    def get_extra_info(self, name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    def write(self, data: bytes) -> None:
        self.written += data


async def test_what_nobody_recorded_ends_the_connection() -> None:
    wire = Wire()
    gate = Gate(wire)
    with pytest.raises(RefusedError, match="was not recorded"):
        gate.write(b"GET / HTTP/1.1\r\n\r\n")
    assert wire.is_aborted and not wire.written
    wire = Wire()
    gate = Gate(wire)
    with gate.gathering():
        gate.writelines((b"GET /", b" HTTP/1.1\r\n\r\n"))
    with pytest.raises(RefusedError, match="without an open record"):
        await gate.release("far")
    assert not wire.written
    over = Departure(Heard(), [("far", 1)], "")
    over.is_over = True
    with departing(over), pytest.raises(RefusedError, match="is over"):
        await gate.release("far")
    assert not wire.written


async def test_without_a_record_only_a_question_for_the_list_leaves() -> None:
    way = Way("request", "far", "", None, "", "")
    await Unrecorded(b"").departing(way, b"GET /v1/models HTTP/1.1\r\nhost: far\r\n\r\n", ())
    await Unrecorded(b"{}").departing(way, b"POST /v2/index HTTP/1.1\r\n\r\n{}", ())
    large = b"x" * 65
    for body, wire in ((b"", b"GET / HTTP/1.1\r\n\r\nbody"), (b"", b""), (large, b"GET / HTTP/1.1\r\n\r\n" + large)):
        with pytest.raises(RefusedError):
            await Unrecorded(body).departing(way, wire, ())


def test_credentials_are_replaced_in_heads_and_nowhere_else() -> None:
    def stand_in(secret: bytes) -> str:
        return "sha256:" + hashlib.sha256(secret).hexdigest()

    wire = b"POST /k HTTP/1.1\r\nauthorization: Bearer k3y\r\nProxy-Authorization: Basic abc\r\n\r\nk3y"
    shown = hidden(wire, ("k3y", ""), stand_in)
    assert shown.startswith(b"POST /k HTTP/1.1\r\nauthorization: Bearer sha256:") and shown.endswith(b"\r\n\r\nk3y")
    assert b"abc" not in shown and shown.count(b"sha256:") == 2
