"""Which token comes next: penalties, bias and temperature over a row of logits, then top-k, top-p and min-p."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from catena.core.messages import Sampling, TokenLogprob, TopLogprob
from catena.run.engines.torch.runtime import library
from catena.run.generating.pieces import Pieces


class Sampler:
    """Chooses the tokens of one choice. Wishes of None are the model's own defaults (its generation_config.json)."""

    def __init__(self, sampling: Sampling, defaults: Any, prompt: list[int], ends: frozenset[int], choice: int) -> None:
        self._sampling = sampling
        self._temperature = _either(sampling.temperature, _default(defaults, "temperature", 1.0))
        if sampling.temperature is None and not getattr(defaults, "do_sample", False):
            self._temperature = 0.0
        self._top_k = _either(sampling.top_k, _default(defaults, "top_k", 0))
        self._top_p = _either(sampling.top_p, _default(defaults, "top_p", 1.0))
        self._min_p = _either(sampling.min_p, _default(defaults, "min_p", 0.0))
        self._repeat = _either(sampling.repeat_penalty, _default(defaults, "repetition_penalty", 1.0))
        self._seen = set(prompt)
        self._written = Counter[int]()
        self._banned = sorted(ends) if sampling.ignore_eos else []
        self._draw = library.Generator()
        if sampling.seed is not None:
            self._draw.manual_seed((sampling.seed + choice) % (1 << 63))
        else:
            self._draw.seed()

    def next(self, logits: Any) -> int:
        """The token chosen from `logits` (vocabulary, float32, on the CPU), which are left as they were."""
        found = logits.clone()
        self._weigh(found)
        if self._temperature < 1e-5:
            token = int(found.argmax())
        else:
            chances = library.softmax(self._narrowed(found / self._temperature), dim=-1)
            token = int(library.multinomial(chances, 1, generator=self._draw))
        self._written[token] += 1
        self._seen.add(token)
        return token

    def _weigh(self, logits: Any) -> None:
        """Penalties and bias. The penalty on repetition is that of Keskar et al. 2019 (arXiv:1909.05858), over prompt
        and answer; presence and frequency, as OpenAI lays them down, over the answer."""
        if self._repeat != 1.0:
            ids = library.tensor(sorted(self._seen))
            values = logits[ids]
            logits[ids] = library.where(values < 0, values * self._repeat, values / self._repeat)
        presence, frequency = self._sampling.presence_penalty or 0.0, self._sampling.frequency_penalty or 0.0
        if presence or frequency:
            for token, count in self._written.items():
                logits[token] -= presence + frequency * count
        for token, bias in self._sampling.logit_bias.items():
            logits[token] += bias
        if self._banned:
            logits[self._banned] = -math.inf

    def _narrowed(self, logits: Any) -> Any:
        """Without the tokens that top-k, top-p (Holtzman et al. 2019, arXiv:1904.09751) and min-p (arXiv:2407.01082)
        leave out; the likeliest always stays."""
        if 0 < self._top_k < len(logits):
            least = library.topk(logits, int(self._top_k)).values[-1]
            logits = logits.masked_fill(logits < least, -math.inf)
        if self._top_p < 1.0:
            ordered, places = library.sort(logits, descending=True)
            chances = library.softmax(ordered, dim=-1)
            left_out = chances.cumsum(-1) - chances >= self._top_p
            left_out[0] = False
            logits = logits.index_fill(0, places[left_out], -math.inf)
        if self._min_p > 0.0:
            chances = library.softmax(logits, dim=-1)
            logits = logits.masked_fill(chances < self._min_p * chances.max(), -math.inf)
        return logits


def logprob(logits: Any, token: int, num_top: int, pieces: Pieces) -> TokenLogprob:
    """Log probabilities of the token and the likeliest, as the model has them: before penalties and temperature."""
    found = library.log_softmax(logits, dim=-1)
    top: list[TopLogprob] = []
    if num_top:
        values, ids = library.topk(found, num_top)
        top = [TopLogprob(*_shown(id, pieces), float(value)) for value, id in zip(values, ids.tolist(), strict=True)]
    return TokenLogprob(*_shown(token, pieces), min(0.0, float(found[token])), tuple(top))


def _shown(token: int, pieces: Pieces) -> tuple[str, bytes]:
    data = pieces.of(token)
    return data.decode("utf-8", "replace"), data


def _either(wish: float | None, default: float) -> float:
    return default if wish is None else wish


def _default(defaults: Any, name: str, otherwise: float) -> float:
    found = getattr(defaults, name, None)
    return otherwise if found is None else found
