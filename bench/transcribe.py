"""What speech to text costs and how well it hears: real-time factor, first text, word errors; pairs reranked a second.

    python bench/transcribe.py [--home FOLDER]

The speech is in `tests/speech` (public domain, one reader, 70 words): each clip by itself, and all of them with pauses
of a second, over and over for two minutes. Everything goes through a running gateway, recorded like any request; the
model alone, without gateway, sound file and voice activity, is measured beside it. Sentences are read clearly, so the
word errors say that the chain works, and little about other recordings.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lab
import numpy

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.speech import clips

from catena.core.manifest import StoredModel
from catena.core.protocols import Placement
from catena.core.settings import StoreSettings
from catena.reach import door
from catena.run import devices
from catena.run.engines.onnx.speech import session
from catena.run.engines.onnx.speech.writing import Line
from catena.store import Store
from catena.watch.keys import Signer

MODELS = ("moonshine-tiny", "moonshine-base")
RERANKER = "ms-marco-minilm-l12-v2"
ROUNDS = 3
LONG_S = 120.0
NUM_PAIRS, PAIR_WORDS = 100, 100
PATH = "/v1/audio/transcriptions"


def long_recording() -> tuple[bytes, str]:
    """All clips with pauses until LONG_S are full, and what is said in it."""
    samples, said = b"", list[str]()
    while len(samples) < LONG_S * clips.RATE * 2:
        for name, text in clips.SAID.items():
            samples += clips.frames(name) + clips.silence(1)
            said.append(text)
    return clips.wav(samples), " ".join(said)


def heard(url: str, model: str, audio: bytes) -> dict[str, Any]:
    """Text, duration, seconds to the first text and to the end, of a stream."""
    start = time.perf_counter()
    first_s, text = 0.0, ""
    for item in door.stream(url, PATH, door.Form({"model": model, "stream": "true"}, "speech.wav", audio)):
        if isinstance(item, dict) and item["type"] == "transcript.text.delta":
            first_s = first_s or time.perf_counter() - start
            text += item["delta"]
    seconds = (len(audio) - 44) / 2 / clips.RATE
    return {"text": text, "first_s": first_s, "took_s": time.perf_counter() - start, "seconds": seconds}


def alone(stored: StoredModel) -> float:
    """Real-time factor of encoder and decoder on each clip as a whole, best of ROUNDS."""
    loaded = session.load(stored, Placement(threads=devices.owned_cores()))
    model = loaded._open_model()
    took_s: list[float] = []
    sounds = [numpy.frombuffer(clips.frames(name), "<i2").astype(numpy.float32) / 32768 for name in clips.SAID]
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for sound in sounds:
            line = Line(model, sound)
            while not line.is_done:
                line.step()
        took_s.append(time.perf_counter() - start)
    return round(min(took_s) / (sum(map(len, sounds)) / clips.RATE), 4)


def transcribing(url: str, model: str, home: Path) -> dict[str, Any]:
    """One model: clip by clip, and the long recording."""
    heard(url, model, clips.path("austen-0880").read_bytes())  # loads it
    runs = [
        [(text, heard(url, model, clips.path(name).read_bytes())) for name, text in clips.SAID.items()]
        for _ in range(ROUNDS)
    ]
    audio, said = long_recording()
    longs = [heard(url, model, audio) for _ in range(ROUNDS)]
    seconds = sum(one["seconds"] for _, one in runs[0])
    store = Store.open(home, StoreSettings(), Signer.open(home))
    try:
        stored = store.resolve(model)
    finally:
        store.close()
    return {
        "clips": {
            "seconds": round(seconds, 1),
            "words": sum(len(clips.words(text)) for text in clips.SAID.values()),
            "word_errors": sum(clips.word_errors(text, one["text"]) for text, one in runs[0]),
            "real_time_factor": lab.median([sum(one["took_s"] for _, one in run) / seconds for run in runs]),
        },
        "long": {
            "seconds": round(longs[0]["seconds"], 1),
            "words": len(clips.words(said)),
            "word_errors": clips.word_errors(said, longs[0]["text"]),
            "real_time_factor": lab.median([one["took_s"] / one["seconds"] for one in longs]),
            "first_text_s": lab.median([one["first_s"] for one in longs]),
        },
        "model_alone_real_time_factor": alone(stored),
    }


def reranking(url: str) -> dict[str, Any]:
    """Pairs of a short query and PAIR_WORDS words, a second."""
    documents = [" ".join(["report", str(number), *["word"] * (PAIR_WORDS - 2)]) for number in range(NUM_PAIRS)]
    body = {"model": RERANKER, "query": "which report is about words?", "documents": documents, "top_n": 1}
    took_s: list[float] = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        door.post(url, "/v1/rerank", body)
        took_s.append(time.perf_counter() - start)
    return {"pairs": NUM_PAIRS, "words": PAIR_WORDS, "pairs_per_s": round(NUM_PAIRS / lab.median(took_s[1:]), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a state folder that has the models, or is to have them")
    given = parser.parse_args().home
    with tempfile.TemporaryDirectory(prefix="catena-bench-") as scratch:
        home = given or Path(scratch)
        for name in (*MODELS, RERANKER):
            environ = {**os.environ, "CATENA_HOME": str(home)}
            subprocess.run([*lab.CATENA, "pull", name], env=environ, check=True, stdout=subprocess.DEVNULL)
        with lab.gateway(home=home) as running:
            found = {name: transcribing(running.url, name, home) for name in MODELS}
            lab.save("transcribe", {"rounds": ROUNDS, "models": found, "rerank": reranking(running.url)})


if __name__ == "__main__":
    main()
