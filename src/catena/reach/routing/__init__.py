"""How much a prompt needs the strong model: features, a learned file, and the measures of routing."""

from catena.reach.routing.difficulty import Difficulty

__all__ = ["Difficulty"]
