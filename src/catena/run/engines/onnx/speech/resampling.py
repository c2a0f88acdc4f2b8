"""Sample rates: any rate to that of the models, by a polyphase filter that goes on from block to block.

Source: J. O. Smith, "Digital Audio Resampling" (https://ccrma.stanford.edu/~jos/resample/): a windowed-sinc low pass
at the lower of the two Nyquist frequencies, of which each output needs one phase.
"""

from __future__ import annotations

from math import ceil, gcd

import numpy
from numpy.typing import NDArray

RATE = 16_000
# Half the length of the filter in periods of the lower rate, the window's shape, and where the pass band ends: 80 dB of
# stop band, the pass band flat to 0.1 dB up to 0.88 of the Nyquist frequency (tests/run/engines/test_onnx_speech.py).
HALF_PERIODS, KAISER_BETA, ROLL_OFF = 24, 8.0, 0.94
# Outputs that are computed at a time, which bounds the memory of the windows they need.
PIECE = 4096


class Resampler:
    """Mono float32 from `rate` to RATE samples per second. Feed blocks in order, then `flush`."""

    def __init__(self, rate: int) -> None:
        common = gcd(rate, RATE)
        self._up, self._down = RATE // common, rate // common
        self._is_same = rate == RATE
        lower = min(1.0, RATE / rate)  # of the input's rate
        self._half = ceil(HALF_PERIODS / lower)
        self._bank = _bank(self._up, self._half, ROLL_OFF * lower)
        # The input that future outputs need, beginning `_half` samples before the first sample.
        self._held = numpy.zeros(self._half, dtype=numpy.float32)
        self._next = 0  # the next output's number
        self._origin = -self._half  # the number of the first sample held
        self._num_in = 0

    def feed(self, block: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        """The outputs that are complete with `block`."""
        if self._is_same:
            return block
        self._num_in += len(block)
        self._held = numpy.concatenate([self._held, block])
        # Output n lies at input n * down / up, and needs `_half` samples on either side.
        end = self._origin + len(self._held) - self._half
        return self._until(-(-end * self._up // self._down))

    def flush(self) -> NDArray[numpy.float32]:
        """The outputs that are left, as if silence followed."""
        if self._is_same:
            return numpy.zeros(0, dtype=numpy.float32)
        self._held = numpy.concatenate([self._held, numpy.zeros(self._half + 1, dtype=numpy.float32)])
        return self._until(-(-self._num_in * self._up // self._down))

    def _until(self, end: int) -> NDArray[numpy.float32]:
        """Outputs from the next one up to number `end`, which the samples held are enough for."""
        pieces = [self._piece(start, min(start + PIECE, end)) for start in range(self._next, end, PIECE)]
        self._next = max(self._next, end)
        keep = self._next * self._down // self._up - self._half - self._origin + 1
        if keep > 0:
            self._held = self._held[keep:]
            self._origin += keep
        return numpy.concatenate(pieces) if pieces else numpy.zeros(0, dtype=numpy.float32)

    def _piece(self, start: int, end: int) -> NDArray[numpy.float32]:
        numbers = numpy.arange(start, end, dtype=numpy.int64) * self._down
        phases, firsts = numbers % self._up, numbers // self._up - self._half + 1 - self._origin
        width = 2 * self._half
        windows = numpy.lib.stride_tricks.sliding_window_view(self._held, width)[firsts]
        return numpy.einsum("nt,nt->n", windows, self._bank[phases]).astype(numpy.float32)


def _bank(up: int, half: int, cutoff: float) -> NDArray[numpy.float32]:
    """One filter per phase (up x 2 half), each with a gain of 1; `cutoff` in parts of the input's Nyquist frequency."""
    # Tap t of phase p weighs the input at distance t - half + 1 - p / up from the output.
    offsets = numpy.arange(2 * half)[None, :] - (half - 1) - numpy.arange(up)[:, None] / up
    window = numpy.i0(KAISER_BETA * numpy.sqrt(numpy.maximum(0.0, 1 - (offsets / half) ** 2))) / numpy.i0(KAISER_BETA)
    bank = cutoff * numpy.sinc(cutoff * offsets) * window
    return (bank / bank.sum(axis=1, keepdims=True)).astype(numpy.float32)
