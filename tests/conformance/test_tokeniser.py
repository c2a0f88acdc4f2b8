"""What every session that shows its tokens must do; run over each registered engine that generates, embeds or ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.conformance.asking import BOUND_S, chat, check_may_lack, refuses_tools
from tests.conformance.conftest import Loaded, placement

from catena.core.errors import CatenaError, EngineError, InputError, UnsupportedError
from catena.core.messages import (
    DetokeniseRequest,
    EmbedRequest,
    TokeniseRequest,
    Tokens,
    Tool,
)
from catena.core.protocols import Counter, Tokeniser

pytestmark = pytest.mark.anyio
PLAIN = "The quick brown fox, 12 times over."
TOOL = Tool("look", "Look something up", {"type": "object", "properties": {"what": {"type": "string"}}})


async def tokens(loaded: Loaded, text: Any = PLAIN, **fields: Any) -> Tokens:
    """The tokens, within BOUND_S."""
    if not isinstance(loaded.session, Tokeniser):
        check_may_lack(loaded, "tokens")
        pytest.skip(f"{loaded.session.facts.engine} shows no tokens")
    with anyio.fail_after(BOUND_S):
        return await loaded.session.tokenise(TokeniseRequest("m", text, **fields))


async def text_of(loaded: Loaded, ids: tuple[int, ...]) -> str:
    with anyio.fail_after(BOUND_S):
        return await loaded.session.detokenise(DetokeniseRequest("m", ids))


@pytest.mark.parametrize("text", [PLAIN, "", " two  spaces\n\tand a tab ", "Grüße aus 東京 🤗"])
async def test_the_tokens_of_a_text_are_its_bytes_and_become_the_text_again(generator: Loaded, text: str) -> None:
    found = await tokens(generator, text, adds_special=False)
    assert len(found.ids) == len(found.pieces)
    assert b"".join(found.pieces).decode() == text
    assert await text_of(generator, found.ids) == text
    assert await tokens(generator, text, adds_special=False) == found


async def test_the_tokens_of_a_conversation_are_those_that_are_counted(generator: Loaded) -> None:
    requests = [chat("Say hello."), chat("Say hello.", tools=(TOOL,))]
    if await refuses_tools(generator, requests[1]):
        requests.pop()
    for request in requests:
        found = await tokens(generator, request)
        assert isinstance(generator.session, Counter)
        assert len(found.ids) == await generator.session.count(request)


async def test_a_conversation_that_cannot_be_asked_has_no_tokens(generator: Loaded) -> None:
    with pytest.raises(CatenaError) as caught:
        await tokens(generator, chat("x", stop=("",)))
    assert isinstance(caught.value, InputError)


async def test_an_id_outside_the_vocabulary_is_refused(generator: Loaded) -> None:
    await tokens(generator)
    for id in (1 << 30, (1 << 31) - 1):
        with pytest.raises(InputError):
            await text_of(generator, (0, id))


async def test_texts_longer_than_the_context_have_tokens(generator: Loaded) -> None:
    words = "word " * (2 * generator.session.facts.context_tokens)
    assert len((await tokens(generator, words)).ids) > generator.session.facts.context_tokens


async def test_the_tokens_of_an_encoder_are_those_that_its_usage_counts(embedder: Loaded) -> None:
    found = await tokens(embedder)
    embedded = await embedder.session.embed(EmbedRequest("m", (PLAIN,)))
    assert len(found.ids) == embedded.usage.prompt_tokens
    bare = await tokens(embedder, adds_special=False)
    assert set(bare.ids) < set(found.ids)
    assert _bare(await text_of(embedder, bare.ids)) == _bare(PLAIN)


async def test_the_name_of_a_special_token_is_read_as_one_only_when_wanted(embedder: Loaded) -> None:
    name = (await tokens(embedder, "")).pieces[0].decode()
    as_token = await tokens(embedder, name, adds_special=False)
    as_text = await tokens(embedder, name, adds_special=False, reads_special=False)
    assert len(as_token.ids) == 1 < len(as_text.ids)
    assert await tokens(embedder, name, adds_special=False) == as_token, "the wish before it is forgotten"


async def test_an_encoder_has_tokens_of_texts_only_and_knows_its_vocabulary(embedder: Loaded) -> None:
    with pytest.raises(UnsupportedError):
        await tokens(embedder, chat("hello"))
    with pytest.raises(InputError):
        await text_of(embedder, (1 << 30,))


async def test_a_reranker_shows_its_tokens(reranker: Loaded) -> None:
    found = await tokens(reranker, adds_special=False)
    assert _bare(await text_of(reranker, found.ids)) == _bare(PLAIN)


def _bare(text: str) -> str:
    """Encoders forget capitals, and not every library takes back the spaces that WordPiece puts before marks."""
    return "".join(text.lower().split())


async def test_a_closed_session_shows_no_tokens(generator: Loaded, tmp_path: Path) -> None:
    await tokens(generator)
    session = await generator.engine.load(generator.model, placement(tmp_path))
    await session.close()
    with pytest.raises(EngineError):
        await session.tokenise(TokeniseRequest("m", PLAIN))
