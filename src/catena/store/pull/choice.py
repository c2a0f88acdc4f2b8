"""Which files of a repository make the model that was asked for: weights by quantisation, and what belongs to them.

Pickles and code are never among them, whatever a repository holds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from msgspec import Struct

from catena.core.errors import FormatError, InputError, NotFoundError, UnsupportedError
from catena.store import formats
from catena.store.beside import is_within
from catena.store.formats import gguf, plain_text
from catena.store.pull.hub import Listing, Reference, RemoteFile

# Taken when nobody asks for another, the first that there is: small, and near the whole model in quality.
PREFERRED = (
    *("q4_k_m", "q4_k_xl", "q4_k_s", "q4_k_l", "q4_0", "q4_1", "iq4_nl", "iq4_xs", "mxfp4"),
    *("q5_k_m", "q5_k_s", "q6_k", "q8_0", "bf16", "f16", "fp16", "f32"),
)
# The same for projectors, which are small beside the model.
PROJECTORS = ("f16", "fp16", "bf16", "q8_0", "f32", "fp32")
# Of other formats: the one whose name says nothing of a variant.
PLAIN = ("", "model", "openvino_model")
KINDS = ("gguf", "safetensors", "onnx", "openvino")
_QUANT = re.compile(
    r"(?:^|[-._/])((?:ud-)?(?:iq[1-8](?:_[a-z0-9]+)*|q[1-8](?:_[a-z0-9]+)*|tq[12]_0|mxfp4(?:_moe)?|nvfp4|bf16|fp?16|fp?32))"
    r"(?=$|[-._/])"
)
_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


class Pick(Struct, frozen=True):
    """Files that make a model, each with its name in the model's folder: `weights` in order, then `others`."""

    kind: str
    label: str
    weights: tuple[tuple[str, RemoteFile], ...]
    others: tuple[tuple[str, RemoteFile], ...] = ()

    @property
    def files(self) -> tuple[tuple[str, RemoteFile], ...]:
        return self.weights + self.others


class _Group(Struct, frozen=True):
    """Weights that belong together: their common path without part number and suffix, and how people call them."""

    stem: str
    label: str
    files: tuple[RemoteFile, ...]


def choose(reference: Reference, listing: Listing) -> Pick:
    """The model that the reference asks for.

    Raises FormatError for names that lead out of a folder, NotFoundError with the nearest choices, InputError where
    nothing singles out one, UnsupportedError where all weights are pickles or of a format that is not known here.
    """
    for file in listing.files:
        if not is_within(file.path):
            raise FormatError(f"{reference.repo} names a file that is refused: {plain_text(file.path, 80)!r}")
    wanted = (reference.wanted or "").lower()
    kinds = [wanted] if wanted in KINDS else [kind for kind in KINDS if kind in formats.names()]
    for kind in kinds:
        groups = _GROUPS[kind](listing.files)
        if groups:
            preferred = PREFERRED if kind == "gguf" else PLAIN
            group = _single(reference, groups, "" if wanted in KINDS else wanted, preferred)
            return _complete(kind, group, listing.files)
    raise _nothing(reference, listing.files)


def _complete(kind: str, group: _Group, files: Sequence[RemoteFile]) -> Pick:
    """The group with its companions: those in the folder of the weights, else those at the top."""
    if kind not in formats.names():
        raise UnsupportedError(f"{kind} is not known here", hint=f"known: {', '.join(formats.names())}")
    folder = str(PurePosixPath(group.files[0].path).parent)
    prefix = "" if folder == "." else f"{folder}/"
    present = {file.path: file for file in files}
    weights = [(file.path.removeprefix(prefix), file) for file in group.files]
    if kind == "openvino":
        data = present[group.files[0].path.removesuffix(".xml") + ".bin"]
        weights.append((data.path.removeprefix(prefix), data))
    if kind == "onnx":  # data kept outside the file is called after it
        name = group.files[0].path
        weights += [
            (file.path.removeprefix(prefix), file)
            for file in files
            if file.path.startswith((f"{name}_data", f"{name}.data")) and "/" not in file.path.removeprefix(prefix)
        ]
    others: list[tuple[str, RemoteFile]] = []
    for name in formats.find(kind).COMPANIONS:
        found = present.get(prefix + name) or present.get(name)
        if name == gguf.PROJECTOR:
            found = _projector(files, prefix)
        if found is not None and found not in group.files:
            others.append((name, found))
    return Pick(kind, group.label, tuple(weights), tuple(others))


def _projector(files: Sequence[RemoteFile], prefix: str) -> RemoteFile | None:
    """The projector beside the weights, else at the top: in 16 bits, if there are several."""
    found = [file for file in files if gguf.is_projector(PurePosixPath(file.path).name)]
    for folder in (prefix, ""):
        here = [file for file in found if file.path.rpartition("/")[0] == folder.rstrip("/")]
        if here:
            return min(here, key=lambda file: (_rank(file.path), file.path))
    return None


def _rank(path: str) -> int:
    quant = _QUANT.findall(path.lower().removesuffix(".gguf"))
    return PROJECTORS.index(quant[-1]) if quant and quant[-1] in PROJECTORS else len(PROJECTORS)


def _single(reference: Reference, groups: Sequence[_Group], wanted: str, preferred: Sequence[str]) -> _Group:
    """The one that `wanted` means, or where it is empty the first of the `preferred` labels."""
    if wanted:
        found = [group for group in groups if wanted in _names(group)]
        if not found:
            known = sorted({group.label for group in groups if group.label}) or sorted(group.stem for group in groups)
            near = difflib.get_close_matches(wanted, [name.lower() for name in known], n=3, cutoff=0.4)
            shown = [name for name in known if name.lower() in near] or known[:12]
            raise NotFoundError(
                f"{reference.repo} has no {reference.wanted}",
                hint=f"{'nearest' if near else 'there are'}: {', '.join(shown)}",
            )
    else:
        found = list(groups)
        for label in preferred:
            if len(found) > 1 and (best := [group for group in groups if group.label.lower() == label]):
                found = best
                break
    if len(found) == 1:
        return found[0]
    names = [group.label or PurePosixPath(group.stem).name for group in found]
    if len(set(names)) < len(names):
        names = [_file_name(group) for group in found]
    raise InputError(
        f"{reference.repo} holds {len(found)} models",
        hint=f"name one: {reference.scheme}:{reference.repo}:{names[0]}; there are {', '.join(names[:12])}",
    )


def _names(group: _Group) -> set[str]:
    """By what a group may be asked for, in lower case: its label, its file's name or path, with and without suffix."""
    first = group.files[0].path.lower()
    stem = group.stem.lower()
    return {group.label.lower(), first, PurePosixPath(first).name, stem, PurePosixPath(stem).name} - {""}


def _file_name(group: _Group) -> str:
    return group.files[0].path


def _grouped(
    files: Sequence[RemoteFile], suffix: str, label: Callable[[str], str], is_left_out: Callable[[str], bool]
) -> list[_Group]:
    """Files that end in `suffix`, parts of one model together and in order; incomplete sets are left out."""
    found: dict[tuple[str, int], dict[int, RemoteFile]] = {}
    for file in files:
        if not file.path.lower().endswith(suffix) or is_left_out(PurePosixPath(file.path).name.lower()):
            continue
        stem = file.path[: -len(suffix)]
        part = _PART.search(stem)
        number, count = (int(part[1]), int(part[2])) if part else (1, 1)
        found.setdefault((stem[: part.start()] if part else stem, count), {})[number] = file
    return [
        _Group(stem, label(stem), tuple(parts[number] for number in range(1, count + 1)))
        for (stem, count), parts in sorted(found.items())
        if set(parts) == set(range(1, count + 1))
    ]


def _gguf(files: Sequence[RemoteFile]) -> list[_Group]:
    """Projectors and importance matrices are no models of their own."""

    def label(stem: str) -> str:
        matches = _QUANT.findall(stem.lower())
        return stem[stem.lower().rindex(matches[-1]) :][: len(matches[-1])].upper() if matches else ""

    return _grouped(files, ".gguf", label, lambda name: gguf.is_projector(name) or "imatrix" in name)


def _safetensors(files: Sequence[RemoteFile]) -> list[_Group]:
    """Those at the top; `model` wins over what else may lie there: the same weights consolidated, or variants."""
    groups = _grouped(
        [file for file in files if "/" not in file.path], ".safetensors", lambda stem: stem, lambda _: False
    )
    best = [group for group in groups if group.stem == "model"]
    return best or groups


def _onnx(files: Sequence[RemoteFile]) -> list[_Group]:
    """Those at the top or in `onnx/`; `model_NAME` is called NAME, and plain `model` is what is taken unasked."""

    def label(stem: str) -> str:
        return PurePosixPath(stem).name.removeprefix("model").lstrip("_-.")

    return _grouped(
        [file for file in files if file.path.count("/") == file.path.startswith("onnx/")],
        ".onnx",
        label,
        lambda _: False,
    )


def _openvino(files: Sequence[RemoteFile]) -> list[_Group]:
    """Descriptions with the constants beside them, at the top or in `openvino/`; no tokenizers."""
    present = {file.path for file in files}
    left_out = formats.find("openvino").COMPANIONS if "openvino" in formats.names() else {}
    found = [
        file
        for file in files
        if file.path.count("/") == file.path.startswith("openvino/")
        and file.path.removesuffix(".xml") + ".bin" in present
    ]
    return _grouped(found, ".xml", lambda stem: PurePosixPath(stem).name, lambda name: name in left_out)


_GROUPS: dict[str, Callable[[Sequence[RemoteFile]], list[_Group]]] = {
    "gguf": _gguf,
    "safetensors": _safetensors,
    "onnx": _onnx,
    "openvino": _openvino,
}


def _nothing(reference: Reference, files: Sequence[RemoteFile]) -> UnsupportedError | NotFoundError:
    pickles = [file.path for file in files if file.path.lower().endswith(_PICKLES)]
    if pickles:
        return UnsupportedError(
            f"{reference.repo} has its weights only as pickles ({plain_text(pickles[0], 80)}): loading one runs code",
            hint="look for the same model as GGUF, safetensors or ONNX",
        )
    return NotFoundError(
        f"{reference.repo} holds no {reference.wanted if reference.wanted in KINDS else 'model'} that is known here",
        hint=f"known formats: {', '.join(formats.names())}",
    )
