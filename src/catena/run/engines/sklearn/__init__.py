"""scikit-learn models out of .skops files, which are data: nothing in them is run, and no pickle is ever read."""

from catena.run.engines.sklearn.engine import Engine

__all__ = ["Engine"]
