"""Forgetting: what is asked for is found in every form, its keys are destroyed, and a scan proves it."""

from catena.reach.forgetting.forgetting import Forgetting, Report
from catena.reach.forgetting.forms import Forms
from catena.reach.forgetting.target import Target

__all__ = ["Forgetting", "Forms", "Report", "Target"]
