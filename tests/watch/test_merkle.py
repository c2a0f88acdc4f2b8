"""The tree against the published vectors of RFC 6962 implementations, and the laws of its proofs."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.watch import merkle
from catena.watch.tree import Tree
from catena.watch.verifier import EMPTY_ROOT, Failed, check_consistency, inclusion_root, leaf_hash, node_hash

# Inputs and roots of certificate-transparency's merkle_tree_test, used by most RFC 6962 implementations.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def grown(size: int) -> Tree:
    tree = Tree(Path("nowhere"))
    for number in range(size):
        tree.append(leaf_hash(str(number).encode()))
    return tree


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


TREES = {size: grown(size) for size in (*range(70), 255, 256, 257, 511, 700)}
sizes = st.sampled_from([size for size in TREES if size])


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_published_vectors(size: int) -> None:
    tree = Tree(Path("nowhere"))
    for leaf in LEAVES[:size]:
        tree.append(leaf_hash(bytes.fromhex(leaf)))
    assert tree.root().hex() == ROOTS[size]
    assert merkle.root(tree.node, size).hex() == ROOTS[size]


def test_the_root_over_nothing_is_the_hash_of_nothing() -> None:
    assert grown(0).root() == EMPTY_ROOT == sha256(b"").digest()


@pytest.mark.parametrize("size", TREES)
def test_every_root_follows_the_definition(size: int) -> None:
    leaves = [leaf_hash(str(number).encode()) for number in range(size)]
    assert TREES[size].root() == by_definition(leaves)
    assert merkle.root(TREES[700].node, size) == by_definition(leaves)


@given(st.data())
def test_inclusion_holds_for_every_leaf_and_fails_for_any_flipped_bit(data: st.DataObject) -> None:
    size = data.draw(sizes)
    index = data.draw(st.integers(0, size - 1))
    tree, leaf = TREES[size], leaf_hash(str(index).encode())
    path = merkle.inclusion(tree.node, index, size)
    assert inclusion_root(leaf, index, size, path) == tree.root()
    parts = [leaf, *path]
    at = data.draw(st.integers(0, len(parts) * 256 - 1))
    parts[at // 256] = flipped(parts[at // 256], at % 256)
    assert inclusion_root(parts[0], index, size, parts[1:]) != tree.root()


@given(st.data())
def test_a_path_proves_no_other_index_and_no_other_length(data: st.DataObject) -> None:
    size = data.draw(sizes.filter(lambda size: size > 1))
    index, other = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True))
    tree, path = TREES[size], merkle.inclusion(TREES[size].node, index, size)
    with suppress(Failed):
        assert inclusion_root(leaf_hash(str(index).encode()), other, size, path) != tree.root()
    for wrong in (path[:-1], [*path, path[-1]]):
        with pytest.raises(Failed, match=r"too short|too long"):
            inclusion_root(leaf_hash(str(index).encode()), index, size, wrong)


@given(st.data())
def test_consistency_holds_for_all_sizes_and_fails_for_any_flipped_bit(data: st.DataObject) -> None:
    second = data.draw(sizes)
    first = data.draw(st.integers(1, second))
    old, new = merkle.root(TREES[second].node, first), TREES[second].root()
    path = merkle.consistency(TREES[second].node, first, second)
    check_consistency(first, second, old, new, path)
    parts = [old, new, *path]
    at = data.draw(st.integers(0, len(parts) * 256 - 1))
    parts[at // 256] = flipped(parts[at // 256], at % 256)
    with pytest.raises(Failed):
        check_consistency(first, second, parts[0], parts[1], parts[2:])


def test_any_tree_extends_the_empty_one_and_none_shrinks() -> None:
    check_consistency(0, 5, EMPTY_ROOT, TREES[5].root(), [])
    with pytest.raises(Failed, match="cannot extend"):
        check_consistency(5, 4, TREES[5].root(), TREES[4].root(), [])


def test_rewinding_forgets_exactly_what_was_appended_since() -> None:
    tree = grown(300)
    mark, root = tree.mark(), tree.root()
    for number in range(300):
        tree.append(leaf_hash(b"x%d" % number))
    tree.rewind(mark)
    assert (tree.size, tree.root()) == (300, root)
    for number in range(300, 700):
        tree.append(leaf_hash(str(number).encode()))
    assert tree.root() == TREES[700].root()


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
