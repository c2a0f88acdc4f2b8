"""Reads a .skops file into a model: only types that are named here or that skops itself trusts, and sound trees."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from catena.core.errors import FormatError, MissingExtraError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.store.formats import find as find_format
from catena.store.formats import plain_text

try:
    import numpy
    import sklearn
    import skops.io
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "skops", "sklearn") from error

library: Any = sklearn
_skops: Any = skops.io
# Besides the estimators, functions and data types of scikit-learn, NumPy and SciPy that skops trusts: what trees are
# made of. A prefix would not do, as NumPy and SciPy have functions that run code.
TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
MAX_NAMES = 8
_LEAF = -1


def read(model: StoredModel) -> Any:
    """The model, for rows without names. Raises FormatError, UnsupportedError naming types not trusted."""
    path = model.path("weights")
    find_format("skops").describe({"weights": path})  # bounds on the zip, before a library reads it
    hint = f"run `catena verify {model.name}`"
    try:
        strange = sorted(set(_skops.get_untrusted_types(file=str(path))) - set(TRUSTED))
        if strange:
            names = ", ".join(plain_text(name, 80) for name in strange[:MAX_NAMES])
            raise UnsupportedError(
                f"{model.name} holds types that are not trusted: {names}",
                hint="only types of scikit-learn, NumPy and SciPy are; export others, as of LightGBM, to ONNX",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another version of scikit-learn: whether it works, the trial shows
            found = _skops.load(str(path), trusted=list(TRUSTED))
        _check_trees(found)
    except UnsupportedError:
        raise
    except Exception as error:
        # The library walks what a stranger wrote, and raises whatever it stumbles on.
        raise FormatError(f"skops cannot read {model.name}", hint=hint) from error
    _calm(found)
    return found


def _check_trees(model: Any) -> None:
    """Raises ValueError for a tree whose nodes lead outside it: the code that walks trees checks nothing."""
    for one in _objects(model):
        kind = type(one).__name__
        if kind == "Tree":
            state = one.__getstate__()["nodes"]
            _check_nodes(state["left_child"], state["right_child"], state["feature"], one.n_features, len(state))
        elif kind == "TreePredictor":
            nodes = one.nodes
            inner = nodes[nodes["is_leaf"] == 0]
            size, places = len(nodes), numpy.flatnonzero(nodes["is_leaf"] == 0)
            for side in ("left", "right"):
                if not ((inner[side] > places) & (inner[side] < size)).all():
                    raise ValueError("a tree leads outside itself")
            if inner["is_categorical"].any():
                raise ValueError("trees over categories are not read here")


def _check_nodes(left: Any, right: Any, feature: Any, num_features: int, size: int) -> None:
    places = numpy.arange(size)
    inner = left != _LEAF
    for side in (left, right):
        if not ((side[inner] > places[inner]) & (side[inner] < size)).all():
            raise ValueError("a tree leads outside itself")
    if not ((feature[inner] >= 0) & (feature[inner] < num_features)).all():
        raise ValueError("a tree asks for a feature that is not there")


def _objects(model: Any) -> Iterator[Any]:
    """Everything that the model is made of, each once."""
    stack, seen = [model], set[int]()
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float | bool | type(None)):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, dict):
            stack += one.values()
        elif isinstance(one, list | tuple):
            stack += one
        elif isinstance(one, numpy.ndarray):
            stack += one.ravel().tolist() if one.dtype.hasobject else []
        else:
            stack += vars(one).values() if hasattr(one, "__dict__") else []


def _calm(model: Any) -> None:
    """The placement's threads are the library's threads: a model that wants all cores does not get them. Without the
    names of its columns a model does not warn, at each call, that rows come without them."""
    for one in list(_objects(model)):
        if "feature_names_in_" in getattr(one, "__dict__", {}):
            del one.feature_names_in_
    wishes = model.get_params(deep=True) if hasattr(model, "get_params") else {}
    names = [name for name in wishes if name.split("__")[-1] == "n_jobs"]
    if names:
        model.set_params(**dict.fromkeys(names, 1))
