"""Random flows of labelled content through the real router: how many bytes of it ever reach a recording provider.

Usage: python bench/flows.py [--flows N] [--seed S] [--jobs J]
Each flow hides a canary in a labelled piece (file, memory, knowledge, screen, clipboard, system prompt, tool result, or
a label of the call), then takes steps at random: local answers that repeat, shorten, encode, turn round or disguise it,
cancelled streams, tools, agents of several turns, and calls for a remote model with what came out, whole or in part,
with or without its label, in the same session or another, again after a failure. The provider keeps every byte. A
control without policy and ledger must leak, or the search for canaries finds nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import multiprocessing
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import quote

import lab

from catena.core.errors import NetworkError, NotFoundError, RefusedError
from catena.core.manifest import Manifest, Provenance, StoredModel
from catena.core.messages import (
    PUBLIC,
    ChatRequest,
    Delta,
    Finished,
    Label,
    Mark,
    Message,
    Text,
    ToolCall,
    Usage,
    message_text,
)
from catena.core.protocols import SessionFacts
from catena.core.settings import ProviderSettings
from catena.reach.cloud.client import Answer
from catena.reach.cloud.cloud import Cloud
from catena.reach.privacy.clearance import Gatekeeper
from catena.reach.privacy.ledger import Ledger
from catena.reach.privacy.policy import Policy
from catena.reach.router import Router
from catena.reach.ticket import Caller

HERE = StoredModel(Manifest("tiny", "generate", "test", (), "Apache-2.0", Provenance("test")), "sha256:" + "a" * 64, {})
OPEN = '[[rule]]\nname = "everything"\nthen = "remote"\n'
GUARDED = (
    '[[label]]\nsource = "tool:hr_*"\nlabel = "secret, hr"\n'
    '[[rule]]\nname = "labelled"\nlevel = "internal"\nthen = "local"\n'
    '[[rule]]\nname = "compartments"\ncompartments = ["*"]\nthen = "local"\n'
    '[[rule]]\nname = "the rest"\nthen = "remote"\n'
)
HARMLESS = (
    "What is a heap, and when is it better than a sorted list?",
    "解释一下什么是量子纠缠。",
    "Write a limerick about a lighthouse keeper.",
    "How do tides depend on the moon?",
    "把这句话翻译成英文：春眠不觉晓，处处闻啼鸟。",
)
WORDS = (
    "merger", "price", "board", "quarter", "reactor", "valve", "salary", "court", "witness", "patent", "launch",
    "supplier", "turbine", "budget",
)  # fmt: skip
# Never said beside a canary: what stands beside one in an answer is as private as it, from then on.
ELSEWHERE = (
    "Why is the sky blue at noon and red in the evening?",
    "Name three uses of a hash function besides tables.",
    "用三句话介绍一下宋代的活字印刷术。",
    "What makes bread rise?",
)
LOOKALIKES = str.maketrans("aeocpxyiABCEHKMOPTX", "аеосрхуіАВСЕНКМОРТХ")
SOURCES = ("file:notes/plan.txt", "memory", "knowledge:team", "screen", "clipboard", "system")
SSE = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"big","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":"Understood."},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"big","choices":[],"usage":'
    b'{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}\n\ndata: [DONE]\n\n'
)


class Judged(NamedTuple):
    is_private: bool = False
    reasons: tuple[str, ...] = ()


class Log:
    async def append(self, record: Any, /) -> int:
        return 0


class Salts:
    def salt(self, receipt: str, /) -> bytes:
        return hashlib.sha256(receipt.encode()).digest()


class Models:
    def resolve(self, name: str, /) -> StoredModel:
        if name == "tiny":
            return HERE
        raise NotFoundError(f"there is no model {name!r}")


class Recorder:
    """Stands where the network client is: keeps what is about to leave, and answers or fails."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.fails = False

    @asynccontextmanager
    async def ask(self, outgoing: Any, headers: dict[str, str], leaving: Any) -> AsyncIterator[Answer]:
        leaving(outgoing.body)
        self.sent.append(outgoing.path.encode() + b"\n" + repr(headers).encode() + b"\n" + outgoing.body)
        if self.fails:
            raise NetworkError("the provider broke off")

        async def pieces() -> Any:
            yield SSE

        yield Answer(200, {"content-type": "text/event-stream"}, pieces())

    async def close(self) -> None:
        pass


class Session:
    """A local model that says what `turn` makes of the last message, word by word."""

    facts = SessionFacts("bench", "cpu", 1, 100, 0)
    turn: Any = staticmethod(lambda text: text)

    async def generate(self, request: ChatRequest, /) -> Any:
        said = self.turn("\n".join(message_text(message) for message in request.messages))
        for start in range(0, len(said), 40):
            yield Delta(text=said[start : start + 40])
        yield Finished(0, "stop")
        yield Usage(1, 1)


class Scheduler:
    def __init__(self, session: Session) -> None:
        self.session = session

    def phase(self, digest: str) -> str:
        return "ready"

    @asynccontextmanager
    async def lease(self, model: Any, caller: str, **more: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(session=self.session, queued_s=0.0, loading_s=0.0)


def shifted(text: str) -> str:
    """Every other letter as one of another alphabet that looks the same."""
    return "".join(letter.translate(LOOKALIKES) if place % 2 else letter for place, letter in enumerate(text))


TURNS: dict[str, Any] = {
    "repeat": lambda text: text,
    "summary": lambda text: "In short: " + " ".join(text.split()[-14:]),
    "cut": lambda text: text[len(text) // 3 :],
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "url": lambda text: quote(text, safe=""),
    "reverse": lambda text: text[::-1],
    "lookalikes": shifted,
    "upper": lambda text: text.upper(),
    "json": lambda text: json.dumps({"result": text}),
    "spaced": "\u200b".join,
    "fullwidth": lambda text: "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text),
}


class World:
    def __init__(self, policy: str, *, is_control: bool) -> None:
        self.recorder = Recorder()
        cloud = Cloud(
            [ProviderSettings("far", kind="openai", base_url="http://127.0.0.1:9", allow_plain_http=True)], {}
        )
        cloud._clients = {"far": self.recorder}  # type: ignore[dict-item]
        self.session = Session()
        ledger = Ledger(b"bench")
        if is_control:
            ledger.find = lambda text: PUBLIC  # type: ignore[method-assign]
        self.keeper = Gatekeeper(Policy(policy, "policy.toml"), Blind(), lambda text: Judged(), ledger)
        self.router = Router(
            Models(),
            Scheduler(self.session),
            Log(),
            Salts(),
            cloud=cloud,
            gatekeeper=self.keeper,  # type: ignore[arg-type]
        )
        self.counts: Counter[str] = Counter()

    async def local(self, messages: list[Message], caller: Caller, how: str, cut: bool) -> str:
        """What the local model makes of the conversation, maybe broken off."""
        self.session.turn = TURNS[how]
        said = ""
        async with self.router.generate(ChatRequest("tiny", tuple(messages)), caller) as answer:
            async for event in answer.events:
                if isinstance(event, Delta):
                    said += event.text
                    if cut and len(said) > 40:
                        break
        self.counts["local"] += 1
        return said

    async def remote(self, messages: list[Message], caller: Caller) -> bool:
        """Whether it was let go."""
        try:
            async with self.router.generate(ChatRequest("far/big", tuple(messages)), caller) as answer:
                async for _ in answer.events:
                    pass
        except RefusedError:
            self.counts["refused"] += 1
            return False
        except NetworkError:
            self.counts["failed after leaving"] += 1
            return True
        self.counts["let go"] += 1
        return True


class Blind:
    """Labels alone are tried here, without any detector to help them."""

    def scan(self, text: str, /) -> list[Any]:
        return []


async def flow(world: World, draw: random.Random, number: int) -> str:
    """One flow; gives the canary."""
    canary = f"{draw.choice('qxzvkj')}{draw.getrandbits(80):020x}"
    sentence = f"The {draw.choice(WORDS)} {draw.choice(WORDS)} key is {canary}, for the {draw.choice(WORDS)} {number}."
    session = f"s{number}" if draw.random() < 0.5 else ""
    caller = Caller("k1", "openai.chat", session=session)
    how = draw.randrange(len(SOURCES) + 2)
    asked = Text(draw.choice(HARMLESS))
    if how < len(SOURCES):
        label = Label(draw.choice(("internal", "personal", "secret")), ("customer:x",) if draw.random() < 0.3 else ())
        role: Any = "system" if SOURCES[how] == "system" else "user"
        first = [Message(role, (Text(sentence, Mark(label, SOURCES[how])),)), Message("user", (asked,))]
    elif how == len(SOURCES):
        call = Message("assistant", (), (ToolCall("c1", "hr_look", "{}"),))
        first = [Message("user", (asked,)), call, Message("tool", (Text(sentence),), tool_call_id="c1")]
    else:
        first = [Message("user", (Text(sentence), asked))]
        caller = Caller("k1", "openai.chat", session=session, label=Label("secret"))
        # A label of the call holds for what is asked in it: the content is known from then on through its answer.
        await world.local(first, caller, "repeat", cut=False)
        caller = Caller("k1", "openai.chat", session=session)
    history = first
    if draw.random() < 0.3:
        await world.remote(history, caller)
    for _ in range(draw.randrange(1, 4)):
        said = await world.local(history, caller, draw.choice(list(TURNS)), cut=draw.random() < 0.2)
        piece = Text(TURNS[draw.choice(list(TURNS))](said)) if draw.random() < 0.4 else Text(said)
        other = caller if draw.random() < 0.5 else Caller("k1", "openai.chat", session=f"t{number}")
        match draw.randrange(4):
            case 0:
                sent = [*history, Message("assistant", (Text(said),)), Message("user", (asked,))]
            case 1:
                sent = [Message("user", (Text("Go on from this:"), piece))]
            case 2:
                call = Message("assistant", (), (ToolCall("c9", "note", json.dumps({"text": said})),))
                sent = [Message("user", (asked,)), call, Message("tool", (Text("done"),), tool_call_id="c9")]
            case _:
                sent = [Message("system", (piece,)), Message("user", (asked,))]
        world.recorder.fails = draw.random() < 0.1
        was_sent = await world.remote(sent, other)
        if was_sent and world.recorder.fails:  # every retry is decided again
            world.recorder.fails = False
            await world.remote(sent, other)
        world.recorder.fails = False
        history = sent
    if draw.random() < 0.3:
        world.counts["harmless"] += 1
        world.counts["harmless let go"] += await world.remote(
            [Message("user", (Text(draw.choice(ELSEWHERE)),))], Caller("k1", "openai.chat", session=f"h{number}")
        )
    return canary


def leaked(canary: str, sent: bytes) -> str | None:
    """In which form the canary is in what left, None for none: plain, turned round, encoded, disguised."""
    text = sent.decode("utf-8", "replace")
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
    back = str.maketrans("аеосрхуіАВСЕНКМОРТХ", "aeocpxyiABCEHKMOPTX")
    plain = text.translate(back).replace("\u200b", "")
    plain = "".join(chr(ord(one) - 0xFEE0) if 0xFF01 <= ord(one) <= 0xFF5E else one for one in plain).casefold()
    raw = canary.encode()
    forms = {
        "plain": canary,
        "reversed": canary[::-1],
        "hex": raw.hex(),
        "reversed hex": raw.hex()[::-1],
        "hex of reversed": raw[::-1].hex(),
        "url": "".join(f"%{one:02x}" for one in raw),
    }
    for name, form in forms.items():
        if form in plain:
            return name
    for shift in range(3):  # base64 at each alignment, without its ragged ends
        for content in (raw, raw[::-1]):
            form = base64.b64encode(b"x" * shift + content).decode().rstrip("=")[4:-4]
            if form in text or form in text[::-1]:
                return "base64"
    return None


def run(task: tuple[int, int, bool]) -> tuple[Counter[str], int]:
    """So many flows of one seed; counts, and bytes that left."""
    seed, num_flows, is_control = task
    draw = random.Random(seed)
    world = World(OPEN if is_control else GUARDED, is_control=is_control)
    num_bytes = 0

    async def work() -> None:
        nonlocal num_bytes
        for number in range(num_flows):
            if (
                number % 2000 == 0 and not is_control
            ):  # so that memory stays bounded; a flow's labels live as long as it
                world.keeper.ledger._prints.clear()
                world.keeper.ledger._sessions.clear()
            canary = await flow(world, draw, number)
            world.counts["flows"] += 1
            for sent in world.recorder.sent:
                num_bytes += len(sent)
                if (form := leaked(canary, sent)) is not None:
                    world.counts[f"leaked {form}"] += 1
            world.recorder.sent.clear()

    asyncio.run(work())
    return world.counts, num_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    control, _ = run((0, 2000, True))
    num_control = sum(number for name, number in control.items() if name.startswith("leaked"))
    assert num_control > 500, f"the search finds too little: {control}"
    began_s, counts, num_bytes = time.monotonic(), Counter[str](), 0
    part = 10_000
    tasks = [
        (chosen.seed * 1_000_003 + start, min(part, chosen.flows - start), False)
        for start in range(0, chosen.flows, part)
    ]
    with multiprocessing.Pool(chosen.jobs) as pool:
        for number, (some, size) in enumerate(pool.imap_unordered(run, tasks), 1):
            counts += some
            num_bytes += size
            if number % 10 == 0:
                print(f"{counts['flows']:,} flows, {time.monotonic() - began_s:.0f} s", flush=True)
    leaks = {name: number for name, number in counts.items() if name.startswith("leaked")}
    told = {
        "flows": counts["flows"],
        "leaks": sum(leaks.values()),
        "leaks_by_form": leaks,
        "counts": dict(counts),
        "bytes_that_left": num_bytes,
        "control_flows": 2000,
        "control_leaks": num_control,
        "seconds": round(time.monotonic() - began_s, 1),
    }
    print(json.dumps(told, indent=2))
    lab.save("flows", told)


if __name__ == "__main__":
    main()
