"""The example of the guide to speech works as it stands, but for the port and the file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.conftest import Gateway
from tests.clients.test_openai_speech import speech
from tests.speech import clips

pytestmark = pytest.mark.model
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "speech.md"
__all__ = ["speech"]


def test_the_example_prints_what_was_said_and_when(speech: Gateway) -> None:
    found = re.search(r"```python example\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    code = found[1]
    assert len(code.strip().splitlines()) <= 10
    code = code.replace("http://127.0.0.1:7411", speech.url).replace("moonshine-base", "moonshine-tiny")
    code = code.replace("interview.wav", str(clips.path("austen-0930")))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    start, end, text = done.stdout.split(maxsplit=2)
    assert float(start) < 0.5 and float(end) > 2.5
    assert clips.word_errors(clips.SAID["austen-0930"], text) <= 1
