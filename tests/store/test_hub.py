"""Models from hubs: what is asked of whom, which files are taken, and what is said when it cannot be."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.hub_server import COMMIT, TOKEN, Fault, HubServer, Repo

from catena.core.errors import (
    BusyError,
    CatenaError,
    ConfigError,
    ConflictError,
    ForbiddenError,
    FormatError,
    InputError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    TooLargeError,
    UnauthenticatedError,
    UnsupportedError,
)
from catena.store import Store
from catena.store.pull import choice, huggingface, web
from catena.store.pull import hub as module
from catena.store.pull.hub import Listing, Reference, RemoteFile, reference_of

HUBS = ("hf", "modelscope")
TEMPLATE = b"{{ messages }}"
# What a real environment may hold and these tests must not.
FOREIGN = (
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "MODELSCOPE_DOMAIN",
    "MODELSCOPE_API_TOKEN",
    "HF_TOKEN_PATH",
)


@pytest.fixture
def weights(gguf: Any) -> bytes:
    return gguf.file()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: bytes) -> Iterator[HubServer]:
    """A hub with one model in three quantisations, and an environment that leads there."""
    files = {
        "README.md": b"# Tiny\n",
        "Tiny-Q4_K_M.gguf": weights,
        "Tiny-Q8_0.gguf": weights + bytes(32),
        "Tiny-IQ3_XXS.gguf": weights + bytes(64),
        "chat_template.jinja": TEMPLATE,
        "run.py": b"raise SystemExit",
    }
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setattr(web, "WAITS_S", (0.01,) * 5)
    with HubServer(**{"org/Tiny-GGUF": Repo(files)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
        yield server


def listed(*paths: str) -> Listing:
    return Listing(COMMIT, tuple(RemoteFile(path, f"http://hub/{path}", 10, "a" * 64) for path in paths))


def chosen(source: str, *paths: str) -> choice.Pick:
    reference = reference_of(source)
    assert reference is not None
    return choice.choose(reference, listed(*paths))


@pytest.mark.parametrize("scheme", HUBS)
def test_a_model_comes_with_its_commit_its_licence_and_the_files_it_needs(
    store: Store, hub: HubServer, scheme: str, weights: bytes
) -> None:
    pulled = store.pull(f"{scheme}:org/Tiny-GGUF")
    manifest = pulled.row.manifest
    assert (pulled.row.name, pulled.is_new, pulled.how) == ("tiny-q4_k_m", True, "copied")
    assert manifest.provenance.source == f"{scheme}:org/Tiny-GGUF@{COMMIT}"
    assert manifest.provenance.inner_path == "Tiny-Q4_K_M.gguf"
    assert manifest.licence == "apache-2.0"
    assert {file.name: file.digest for file in manifest.files} == {
        "Tiny-Q4_K_M.gguf": f"sha256:{hashlib.sha256(weights).hexdigest()}",
        "chat_template.jinja": f"sha256:{hashlib.sha256(TEMPLATE).hexdigest()}",
    }
    assert pulled.bytes_downloaded == pulled.row.size_bytes
    assert store.resolve("tiny-q4_k_m").path("weights").read_bytes() == weights
    assert {request.path for request in hub.seen if request.path} == {"Tiny-Q4_K_M.gguf", "chat_template.jinja"}


def test_a_model_comes_with_its_projector_in_16_bits_under_one_name(
    store: Store, hub: HubServer, weights: bytes, gguf: Any
) -> None:
    eyes = gguf.file((("general.architecture", 8, "clip"), ("clip.has_vision_encoder", 7, True)))
    files = {"Tiny-Q8_0.gguf": weights, "mmproj-Tiny-Q8_0.gguf": b"other", "Tiny-mmproj-F16.gguf": eyes}
    hub.repos["org/Seeing-GGUF"] = Repo(files)
    manifest = store.pull("hf:org/Seeing-GGUF").row.manifest
    assert {(file.role, file.name) for file in manifest.files} == {
        ("weights", "Tiny-Q8_0.gguf"),
        ("projector", "mmproj.gguf"),
    }
    assert manifest.facts["modalities"] == "text image"
    assert store.resolve("tiny-q8_0").path("projector").read_bytes() == eyes


@pytest.mark.parametrize("scheme", HUBS)
@pytest.mark.parametrize("token", [TOKEN, ""])
def test_another_host_gets_the_request_but_never_the_token(
    store: Store, hub: HubServer, scheme: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", token)
    store.pull(f"{scheme}:org/Tiny-GGUF")
    shown = {
        host: [TOKEN in str(each.headers) for each in hub.seen if each.host == host] for host in ("hub", "content")
    }
    assert shown["content"] and not any(shown["content"])
    assert set(shown["hub"]) == {bool(token)}


def test_a_list_is_read_to_its_last_page(store: Store, hub: HubServer) -> None:
    hub.repos["org/Tiny-GGUF"].page = 2
    assert store.pull("hf:org/Tiny-GGUF:q8_0").row.name == "tiny-q8_0"
    assert sum("/tree/" in request.target for request in hub.seen) == 4


@pytest.mark.parametrize("scheme", HUBS)
def test_a_gated_model_names_the_page_to_open_and_the_variable_to_set(
    store: Store, hub: HubServer, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["org/Tiny-GGUF"].gate = "gated"
    with pytest.raises(ForbiddenError) as caught:
        store.pull(f"{scheme}:org/Tiny-GGUF")
    assert f"{hub.url}/" in caught.value.hint and "org/Tiny-GGUF" in caught.value.hint
    variable = {"hf": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}[scheme]
    assert variable in caught.value.hint
    monkeypatch.setenv(variable, TOKEN)
    assert store.pull(f"{scheme}:org/Tiny-GGUF").is_new


def test_a_token_that_the_hub_does_not_know_is_told_and_not_shown(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another-secret")
    with pytest.raises(UnauthenticatedError) as caught:
        store.pull("hf:org/Tiny-GGUF")
    assert "HF_TOKEN" in caught.value.hint and "another-secret" not in str(caught.value)


def test_what_a_hub_echoes_of_the_token_is_not_shown(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fault = lambda _: Fault(status=418, headers={"X-Error-Message": f"bad token {TOKEN}"})
    with pytest.raises(NetworkError, match=r"418: bad token \*\*\*"):
        store.pull("hf:org/Tiny-GGUF")


@pytest.mark.parametrize("gate", ["private", None])
def test_what_is_private_or_missing_looks_the_same_and_says_what_may_help(
    store: Store, hub: HubServer, gate: str | None
) -> None:
    hub.repos["org/Tiny-GGUF"].gate = gate or ""
    with pytest.raises(NotFoundError) as caught:
        store.pull("hf:org/Tiny-GGUF" if gate else "hf:org/none")
    assert "shows no model" in caught.value.message and "HF_TOKEN" in caught.value.hint


@pytest.mark.parametrize("scheme", HUBS)
def test_an_unknown_revision_is_named(store: Store, hub: HubServer, scheme: str) -> None:
    with pytest.raises(NotFoundError, match="has no revision dev"):
        store.pull(f"{scheme}:org/Tiny-GGUF@dev")


def test_the_token_comes_from_the_file_that_a_login_leaves(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert huggingface.connect().token is None
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_text("hf_from-file\n")
    assert huggingface.connect().token == "hf_from-file"
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert huggingface.connect().token is None
    monkeypatch.setenv("HF_TOKEN", "hf_from-environment")
    assert huggingface.connect().token == "hf_from-environment"


@pytest.mark.parametrize("scheme", HUBS)
def test_what_a_commit_pins_is_asked_for_once(store: Store, hub: HubServer, scheme: str) -> None:
    store.pull(f"{scheme}:org/Tiny-GGUF")
    hub.seen.clear()
    again = store.pull(f"{scheme}:org/Tiny-GGUF@{COMMIT}")
    assert (again.how, again.bytes_downloaded, hub.seen) == ("present", 0, [])
    again = store.pull(f"{scheme}:org/Tiny-GGUF")
    assert (again.how, again.is_new) == ("present", False)
    assert hub.seen and not any(request.path for request in hub.seen)


def test_a_branch_that_moved_is_pulled_anew_and_only_what_changed_is_fetched(store: Store, hub: HubServer) -> None:
    store.pull("hf:org/Tiny-GGUF")
    repo = hub.repos["org/Tiny-GGUF"]
    repo.commit, repo.files["chat_template.jinja"] = "f" * 40, b"{{ other }}"
    hub.seen.clear()
    with pytest.raises(ConflictError, match="tiny-q4_k_m already"):
        store.pull("hf:org/Tiny-GGUF")
    pulled = store.pull("hf:org/Tiny-GGUF", name="newer")
    assert pulled.row.manifest.provenance.source.endswith("f" * 40)
    assert {request.path for request in hub.seen if request.path} == {"chat_template.jinja"}


def test_a_name_that_stands_for_other_weights_is_refused_before_anything_is_fetched(
    store: Store, hub: HubServer, large: Path
) -> None:
    store.pull(str(large), name="mine")
    with pytest.raises(ConflictError):
        store.pull("hf:org/Tiny-GGUF", name="mine")
    assert not any(request.path for request in hub.seen)


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_offline_nothing_is_asked_and_what_is_stored_serves(
    store: Store, hub: HubServer, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pull("hf:org/Tiny-GGUF")
    hub.seen.clear()
    if way == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = way == "flag"
    assert store.pull("hf:org/Tiny-GGUF", is_offline=offline).how == "present"
    for source in ("hf:org/Tiny-GGUF@main", "hf:org/Tiny-GGUF:Q8_0", "hf:org/other", f"hf:org/Tiny-GGUF@{'e' * 40}"):
        with pytest.raises(NotFoundError, match="offline"):
            store.pull(source, is_offline=offline)
    assert hub.seen == []


@pytest.mark.parametrize(
    "path", ["../x.gguf", "/etc/x.gguf", "a/../../x.gguf", "a\\x.gguf", "a//x.gguf", "x\n.gguf", "C:x.gguf"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(FormatError, match="refused"):
        chosen("hf:org/repo", "model.gguf", path)


@pytest.mark.parametrize(
    ("endpoint", "token"),
    [
        ("hub.example", None),
        ("ftp://hub.example", None),
        ("https://user:word@hub.example", None),
        ("https://hub.example?x=1", None),
        ("http://hub.example", TOKEN),
    ],
)
def test_an_endpoint_that_is_none_or_would_show_the_token_is_refused(
    store: Store, hub: HubServer, endpoint: str, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", token or "")
    with pytest.raises(ConfigError, match="HF_ENDPOINT") as caught:
        store.pull("hf:org/Tiny-GGUF")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("token", ["hf a", "hf_\u00e4", "hf\x01"])
def test_a_token_that_cannot_be_one_is_not_sent(
    store: Store, hub: HubServer, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ConfigError, match="HF_TOKEN"):
        store.pull("hf:org/Tiny-GGUF")
    assert hub.seen == []


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/x", "https://a:b@127.0.0.1/x", "file:///etc/passwd", "https:///x"])
def test_a_redirect_to_where_no_hub_sends_anyone_is_not_followed(store: Store, hub: HubServer, place: str) -> None:
    hub.redirect_to = place
    with pytest.raises(NetworkError, match="not followed"):
        store.pull("hf:org/Tiny-GGUF")


def test_plain_http_is_followed_for_loopback_and_the_hub_itself_only() -> None:
    for endpoint, place, is_followed in (
        ("https://hub.example", "https://cdn.example/x", True),
        ("https://hub.example", "http://cdn.example/x", False),
        ("https://hub.example", "http://127.0.0.1/x", False),
        ("http://mirror.example", "http://mirror.example/y", True),
        ("http://mirror.example", "http://mirror.example:81/y", False),
    ):
        client = web.Web(web.Hub(endpoint, "HF_ENDPOINT", "HF_TOKEN"))
        assert client._is_allowed(place) is is_followed, (endpoint, place)
        client.close()


def test_a_circle_of_redirects_ends(store: Store, hub: HubServer) -> None:
    hub.redirect_to = f"{hub.url}/org/Tiny-GGUF/resolve/{COMMIT}/Tiny-Q4_K_M.gguf"
    with pytest.raises(NetworkError, match="redirects more than"):
        store.pull("hf:org/Tiny-GGUF")


def test_a_hub_that_asks_for_patience_gets_it(store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(web.Web, "pause", lambda _, seconds: waits.append(seconds))
    answers = iter([429, 503, 500])

    def busy(_: object) -> Fault | None:
        status = next(answers, None)
        return Fault(status=status, headers={"Retry-After": "7"} if status == 429 else {}) if status else None

    hub.fault = busy
    assert store.pull("hf:org/Tiny-GGUF").is_new
    assert waits[0] == 7.0 and max(waits[1:]) < 1.0 and len(waits) == 3


@pytest.mark.parametrize("asked_s", ["3600", "Wed, 01 Jan 2098 00:00:00 GMT"])
def test_a_hub_that_asks_for_too_much_patience_says_when_to_come_back(
    store: Store, hub: HubServer, asked_s: str
) -> None:
    hub.fault = lambda _: Fault(status=429, headers={"Retry-After": asked_s})
    with pytest.raises(BusyError) as caught:
        store.pull("hf:org/Tiny-GGUF")
    assert caught.value.retry_after_s >= 3600 and len(hub.seen) == 1


def test_a_hub_that_cannot_be_reached_names_the_setting(
    store: Store, monkeypatch: pytest.MonkeyPatch, hub: HubServer
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:1 cannot be reached") as caught:
        store.pull("hf:org/Tiny-GGUF")
    assert "HF_ENDPOINT" in caught.value.hint


@pytest.mark.parametrize("case", ["no hub", "too many files", "too large", "too much", "other host"])
def test_what_no_hub_says_is_refused_within_bounds(
    open_store: Callable[..., Store], hub: HubServer, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, int] = {}
    expected: type[CatenaError] = TooLargeError
    match case:
        case "no hub":
            monkeypatch.setattr(hub, "_hugging_face", lambda c, r, *_: hub._json(c, r, 200, ["hello"]))
            expected = NetworkError
        case "too many files":
            settings["max_entries"] = 3
        case "too large":
            settings["max_file_bytes"] = 1000
        case "too much":
            monkeypatch.setattr(huggingface, "MAX_INFO_BYTES", 50)
            expected = NetworkError
        case _:
            hub.repos["org/Tiny-GGUF"].page = 2
            monkeypatch.setattr(hub, "url", "http://127.0.0.1:9")
            expected = NetworkError
    with pytest.raises(expected):
        open_store(**settings).pull("hf:org/Tiny-GGUF")
    assert not any(request.path for request in hub.seen)


@pytest.mark.parametrize("path", ["Tiny-Q4_K_M.gguf", "chat_template.jinja"])
def test_what_does_not_match_the_stated_digest_is_never_stored(
    store: Store, hub: HubServer, path: str, home: Path
) -> None:
    repo = hub.repos["org/Tiny-GGUF"]
    if path.endswith(".gguf"):
        repo.stated[path] = "0" * 64
    else:
        hub.fault = lambda request: Fault(damage_at=3) if request.path == path else None
    with pytest.raises(IntegrityError, match=f"{path} does not match the digest"):
        store.pull("hf:org/Tiny-GGUF")
    assert store.models() == []
    assert [each for each in (home / "blobs").rglob("*") if each.is_file() and each.name != "lock"] == []


def test_what_is_no_model_of_its_format_is_never_signed(store: Store, hub: HubServer) -> None:
    hub.repos["org/Tiny-GGUF"].files["Tiny-Q4_K_M.gguf"] = b"GGUF" + bytes(2000)
    with pytest.raises(FormatError):
        store.pull("hf:org/Tiny-GGUF")
    assert store.models() == []


def test_a_folder_of_several_formats_gives_the_one_that_is_asked_for(
    store: Store, hub: HubServer, onnx: Any, tmp_path: Path
) -> None:
    config = {"model_type": "bert", "max_position_embeddings": 256, "hidden_size": 8}
    files: dict[str, bytes | Path] = {
        "pytorch_model.bin": b"\x80\x04pickle",
        "modeling.py": b"import os",
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": b'{"model": {"vocab": {}}}',
        "onnx/model.onnx": onnx.file(),
        "onnx/model_int8.onnx": onnx.file(),
        "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    }
    hub.repos["org/Encoder"] = Repo(files, licence=None)
    row = store.pull("hf:org/Encoder").row
    assert (row.name, row.manifest.task, row.manifest.facts["pooling"]) == ("encoder", "embed", "mean")
    assert [file.name for file in row.manifest.files] == [
        "model.onnx",
        "tokenizer.json",
        "config.json",
        "1_Pooling/config.json",
    ]
    assert row.manifest.licence == "unknown"
    assert {request.path for request in hub.seen if request.path}.isdisjoint({"pytorch_model.bin", "modeling.py"})
    assert store.pull("hf:org/Encoder:int8", name="small").row.manifest.provenance.inner_path == "onnx/model_int8.onnx"


@pytest.mark.parametrize(
    "source",
    [
        "hf:org",
        "hf:org/a/b",
        "hf:../x",
        "hf:org/..",
        "hf:org/x@",
        "hf:org/x@a/../b",
        "hf:org/x:",
        "hf: org/x",
        "modelscope:/x",
    ],
)
def test_a_source_that_names_no_model_is_refused(source: str) -> None:
    with pytest.raises(InputError):
        reference_of(source)


def test_a_source_is_read_in_its_parts() -> None:
    assert reference_of("hf:org/repo@refs/pr/1:Q4_K_M") == Reference("hf", "org/repo", "refs/pr/1", "Q4_K_M")
    assert reference_of("modelscope:org/repo") == Reference("modelscope", "org/repo")
    assert reference_of("wheel:a==1") is None and reference_of("C:model.gguf") is None


QUANTS = ("m-Q8_0.gguf", "m-Q5_K_M.gguf", "m-Q4_K_M.gguf", "m-IQ2_XS.gguf", "m-BF16.gguf", "mmproj-m-F16.gguf")


SHARDED = ("Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/m-Q4_K_M-00002-of-00002.gguf")
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
LARGE_ONNX = ("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_fp16.onnx", "onnx/model_fp16.onnx_data")
OPENVINO = ("openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml", "openvino_tokenizer.bin")


@pytest.mark.parametrize(
    ("source", "paths", "expected"),
    [
        ("hf:o/r", QUANTS, "m-Q4_K_M.gguf mmproj.gguf"),
        ("hf:o/r", ("m-Q8_0.gguf", "m-BF16.gguf", "mmproj-F16.gguf"), "m-Q8_0.gguf mmproj.gguf"),
        ("hf:o/r", ("only.gguf", "imatrix.gguf"), "only.gguf"),
        ("hf:o/r:q8_0", QUANTS, "m-Q8_0.gguf mmproj.gguf"),
        ("hf:o/r:iq2_xs", QUANTS, "m-IQ2_XS.gguf mmproj.gguf"),
        ("hf:o/r:UD-Q4_K_XL", ("UD-Q4_K_XL/m-UD-Q4_K_XL.gguf", "m-Q4_K_M.gguf"), "m-UD-Q4_K_XL.gguf"),
        ("hf:o/r:Q4_K_M", (*SHARDED, "m-Q8_0.gguf"), "m-Q4_K_M-00001-of-00002.gguf m-Q4_K_M-00002-of-00002.gguf"),
        ("hf:o/r:b-q4_k_m.gguf", ("a-q4_k_m.gguf", "b-q4_k_m.gguf"), "b-q4_k_m.gguf"),
        (
            "hf:o/r",
            ("model.safetensors", "consolidated.safetensors", "pytorch_model.bin", "config.json", "modeling.py"),
            "model.safetensors config.json",
        ),
        ("hf:o/r", PARTS, " ".join(PARTS)),
        ("hf:o/r:onnx", ("model.safetensors", *LARGE_ONNX), "model.onnx model.onnx_data"),
        ("hf:o/r:fp16", LARGE_ONNX, "model_fp16.onnx model_fp16.onnx_data"),
        ("hf:o/r", OPENVINO, " ".join(OPENVINO)),
    ],
)
def test_the_files_that_make_the_model_are_chosen(source: str, paths: tuple[str, ...], expected: str) -> None:
    assert " ".join(name for name, _ in chosen(source, *paths).files) == expected


@pytest.mark.parametrize(
    ("source", "paths", "error", "words"),
    [
        ("hf:o/r:Q4_K", QUANTS, NotFoundError, "nearest: Q4_K_M"),
        ("hf:o/r", ("a-q4_k_m.gguf", "b-q4_k_m.gguf"), InputError, "hf:o/r:a-q4_k_m.gguf"),
        ("hf:o/r", ("pytorch_model.bin", "model.py"), UnsupportedError, "pickles"),
        ("hf:o/r", ("README.md",), NotFoundError, "holds no model"),
        ("hf:o/r", ("m-Q4_K_M-00001-of-00002.gguf",), NotFoundError, "holds no model"),
        ("hf:o/r:gguf", ("model.safetensors",), NotFoundError, "holds no gguf"),
    ],
)
def test_where_nothing_can_be_chosen_the_error_says_what_there_is(
    source: str, paths: tuple[str, ...], error: type[CatenaError], words: str
) -> None:
    with pytest.raises(error) as caught:
        chosen(source, *paths)
    assert words in str(caught.value)


def test_help_and_pulls_of_files_load_no_client_of_the_network(tiny: Path, home: Path) -> None:
    code = (
        "import sys; from pathlib import Path\nfrom catena.core.settings import StoreSettings\n"
        "from catena.store import Store\nfrom catena.watch.keys import Signer\nhome = Path(sys.argv[1])\n"
        "Store.open(home, StoreSettings(), Signer.open(home)).pull(sys.argv[2], name='x')\n"
        "print('pyreqwest' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home), str(tiny)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["sha", "type", "path", "oid", "size", "lfs", "Data", "Files", "Path"]), inner
            )
        ),
        max_leaves=12,
    ),
    at=st.sampled_from(["revision", "tree", "repo"]),
)
def test_whatever_a_hub_answers_the_pull_ends_in_an_error_of_ours(hub: HubServer, body: Any, at: str) -> None:
    commit = {"sha": COMMIT}
    with pytest.MonkeyPatch.context() as bent:
        answer = lambda c, r, name, what, *_: hub._json(c, r, 200, body if what == at else commit)  # noqa: E731
        bent.setattr(hub, "_hugging_face", answer)
        bent.setattr(hub, "_model_scope", lambda c, r, *_: hub._json(c, r, 200, body))
        scheme = "modelscope" if at == "repo" else "hf"
        speaker, reference = module.speaker(scheme), Reference(scheme, "org/Tiny-GGUF")
        client = web.Web(speaker.connect())
        try:
            listing = speaker.list_files(client, reference, 100)
            choice.choose(reference, listing)
        except CatenaError:
            pass
        finally:
            client.close()
