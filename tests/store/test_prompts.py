"""What engines keep of prompts is private, and goes with its model."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests import graphs

from catena.core.errors import IntegrityError
from catena.core.settings import StoreSettings
from catena.store import Store
from catena.store.prompts import Prompts
from catena.watch.keys import Signer

DIGESTS = ["sha256:" + letter * 64 for letter in "ab"]


@pytest.fixture
def prompts(tmp_path: Path) -> Prompts:
    return Prompts(tmp_path)


def test_folders_are_for_their_owner_only_also_where_they_were_not(prompts: Prompts) -> None:
    prompts.root.mkdir(mode=0o755)
    folder = prompts.open(DIGESTS[0])
    assert {stat.S_IMODE(one.stat().st_mode) for one in (prompts.root, folder)} == {0o700}


@pytest.mark.parametrize("digest", ["", "..", "sha256:../../etc", "sha256:" + "a" * 63])
def test_what_is_no_digest_names_no_folder(prompts: Prompts, digest: str) -> None:
    with pytest.raises(IntegrityError):
        prompts.open(digest)
    with pytest.raises(IntegrityError):
        prompts.forget(digest)


def test_only_the_models_that_are_named_keep_theirs(prompts: Prompts) -> None:
    for digest in DIGESTS:
        (prompts.open(digest) / "state").touch()
    prompts.retain(DIGESTS[:1])
    assert [one.name for one in prompts.root.iterdir()] == ["a" * 64]
    prompts.clear()
    assert not prompts.root.exists()
    prompts.retain([])


def test_what_is_kept_of_prompts_goes_with_its_model(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    store = Store.open(home, StoreSettings(), Signer.open(home))
    try:
        path = tmp_path / "net.onnx"
        path.write_bytes(graphs.mlp())
        first = store.pull(str(path), name="first").row
        folder, other = (Prompts(home).open(row.digest) for row in (first, store.copy("first", "second")))
        store.remove("first")
        assert not folder.exists()
        assert other.exists()
        stray = Prompts(home).open(DIGESTS[0])
        store.collect(is_dry=True)
        assert stray.exists()
        store.collect()
        assert not stray.exists()
    finally:
        store.close()
