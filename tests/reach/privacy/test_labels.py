"""Labels form a lattice, and a policy's first rule that fits decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.core.errors import ConfigError, InputError
from catena.core.messages import PUBLIC, Label, join
from catena.core.messages.label import LEVELS
from catena.reach.privacy.policy import NOTHING_FITS, Facts, Policy

labels = st.builds(
    lambda level, compartments: Label(level, tuple(sorted(compartments))),
    st.sampled_from(LEVELS),
    st.sets(st.sampled_from(["medical", "customer:x", "客户"])),
)


@given(labels, labels, labels)
def test_joining_is_the_least_upper_bound(a: Label, b: Label, c: Label) -> None:
    assert a | b == b | a
    assert (a | b) | c == a | (b | c) == join([a, b, c])
    assert a | a == a == a | PUBLIC
    assert a <= a | b
    assert b <= a | b
    assert not (a <= c and b <= c) or (a | b) <= c


@given(labels)
def test_a_label_is_read_back_as_it_was_written(label: Label) -> None:
    if label.level == "public" and label.compartments:
        assert Label.parse(",".join(label.names)).compartments == label.compartments
    else:
        assert Label.parse(",".join(label.names)) == label


@pytest.mark.parametrize("text", ["a b\x00", "x" * 65, "customer:", "; drop", " ".join(f"c{n}" for n in range(65))])
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="compartment"):
        Label.parse(text)


def rules(*rows: str) -> Policy:
    return Policy("\n".join(f"[[rule]]\n{row}" for row in rows), "policy.toml")


def test_the_first_rule_that_fits_decides_and_none_means_local() -> None:
    policy = rules('name="a"\nlevel="secret"\nthen="local"', 'name="b"\nkeys=["k*"]\nthen="remote"')
    assert policy.decide(Facts(label=Label("secret"), key="k1")).rule == "a"
    assert policy.decide(Facts(key="k1")).outcome == "remote"
    assert policy.decide(Facts(key="other")) == NOTHING_FITS


@pytest.mark.parametrize(
    ("condition", "fitting", "other"),
    [
        ('level="personal"', Facts(label=Label("secret")), Facts(label=Label("internal"))),
        ('found="personal"', Facts(kinds={"email": 1}), Facts(kinds={"organisation": 1})),
        ('compartments=["customer:*"]', Facts(label=Label("internal", ("customer:x",))), Facts(label=Label("secret"))),
        ('kinds=["email"]', Facts(kinds={"email": 2}), Facts(kinds={"phone": 1})),
        ('context="private"', Facts(is_private=True), Facts()),
        ("unread=true", Facts(unread=1), Facts()),
        ('sources=["tool:hr_*"]', Facts(sources=frozenset({"tool:hr_pay"})), Facts(sources=frozenset({"tool:web"}))),
        ('tools=["shell"]', Facts(tools=frozenset({"shell"})), Facts()),
        ('sessions=["s*"]', Facts(session="s1"), Facts()),
        ('doors=["openai.*"]', Facts(door="openai.chat"), Facts(door="ollama.chat")),
        ('providers=["far"]', Facts(provider="far"), Facts(provider="near")),
        ('models=["far/big"]', Facts(model="far/big"), Facts(model="far/small")),
        ('contains=["Falcon"]', Facts(text="project FALCON"), Facts(text="a bird")),
        ('pattern="x{3}"', Facts(text="axxxb"), Facts(text="axxb")),
    ],
)
def test_each_condition_can_hold_and_can_fail(condition: str, fitting: Facts, other: Facts) -> None:
    policy = rules(f'name="a"\n{condition}\nthen="remote"')
    assert policy.decide(fitting).outcome == "remote"
    assert policy.decide(other) == NOTHING_FITS


@pytest.mark.parametrize(
    "row",
    [
        'name="a"',
        'name="a"\nthen="anywhere"',
        'name="a"\nthen="remote"\nkind=["email"]',
        'name="a"\nthen="remote"\nkinds=["e-mail"]',
        'name="a"\nthen="remote"\npattern="(a"',
        'name="a"\nthen="remote"\n[[label]]\nsource="x"\nlabel="a:b:c"',
        "name=",
    ],
)
def test_nonsense_in_a_policy_is_refused(row: str) -> None:
    with pytest.raises((ConfigError, InputError)):
        rules(row)


def test_a_policy_of_the_state_folder_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    shipped = Policy.of(tmp_path)
    assert shipped.version == Policy.shipped().version
    (tmp_path / "policy.toml").write_text('[[rule]]\nname="all"\nthen="remote"\n')
    assert Policy.of(tmp_path).decide(Facts()).rule == "all"
    (tmp_path / "policy.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError):
        Policy.of(tmp_path)


def test_the_shipped_policy_lets_nothing_labelled_go() -> None:
    policy = Policy.shipped()
    for level in LEVELS[1:]:
        assert policy.decide(Facts(label=Label(level))).outcome == "local"
    assert policy.decide(Facts(kinds={"api_key": 1})).outcome == "local"
    assert policy.decide(Facts(unread=1)).outcome == "local"
    assert policy.decide(Facts(is_private=True)).outcome == "local"
    assert policy.decide(Facts(kinds={"person": 1})).outcome == "pseudonymise"
    assert policy.decide(Facts()).outcome == "remote"
