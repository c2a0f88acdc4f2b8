"""Whether a prompt speaks of things that must stay here although no identifier is in it, and why."""

from catena.reach.privacy.context.judge import Judged, Judgement, judge

__all__ = ["Judged", "Judgement", "judge"]
