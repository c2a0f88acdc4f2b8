"""Text out of tokens: letters are whole, and nothing of a stop string is ever shown."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from catena.run.generating.pieces import Pieces
from catena.run.generating.writing import Writer

LETTERS = st.text("ab\N{SNOWMAN}", max_size=24)


def written(data: bytes, cuts: list[int], stops: tuple[str, ...]) -> tuple[str, str | None]:
    writer, text, start = Writer(stops), "", 0
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        text += writer.write(data[start:end])
        start = end
        if writer.stop is not None:
            return text, writer.stop
    return text + writer.end(), writer.stop


@settings(max_examples=200, deadline=None)
@given(LETTERS, st.lists(st.integers(0, 99), max_size=6), st.lists(st.text("ab\N{SNOWMAN}", min_size=1, max_size=4)))
def test_however_tokens_cut_the_text_it_ends_before_its_first_stop_string(
    text: str, cuts: list[int], stops: list[str]
) -> None:
    found, stop = written(text.encode(), cuts, tuple(stops))
    places = [text.find(one) for one in stops if one in text]
    if not places:
        assert (found, stop) == (text, None)
    else:
        # A stop string that ends earlier may be seen before one that begins earlier.
        assert stop in stops and found == text[: text.find(stop)]
        assert all(one not in found for one in stops)


def test_bytes_that_are_no_letter_are_shown_as_such_at_the_end() -> None:
    assert written("é".encode()[:1], [], ()) == ("\N{REPLACEMENT CHARACTER}", None)


def test_tokens_of_sentencepiece_are_spaces_and_bytes() -> None:
    words = {"<unk>": 0, "\N{LOWER ONE EIGHTH BLOCK}one": 1, "<0xE2>": 2, "b": 3}
    tokenizer = Tokenizer(models.BPE(words, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\N{LOWER ONE EIGHTH BLOCK}", " "), decoders.ByteFallback()]
    )
    assert [Pieces(tokenizer).of(id) for id in range(5)] == [b"<unk>", b" one", b"\xe2", b"b", b""]
