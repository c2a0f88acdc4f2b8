"""Configuration: layers and their origins, refusals that name the nearest key, bounds, and where state lives."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.core import config
from catena.core.errors import ConfigError
from catena.core.settings import Settings

KEYS = sorted(config.flatten(Settings()))


def write(folder: Path, text: str) -> Path:
    (folder / "catena.toml").write_text(text)
    return folder


def load(folder: Path, environ: dict[str, str] | None = None, flags: dict[str, Any] | None = None) -> config.Loaded:
    return config.load(folder, environ=environ or {}, flags=flags)


def test_without_any_layer_every_setting_is_a_default(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.settings == Settings()
    assert set(loaded.origins) == set(KEYS)
    assert set(loaded.origins.values()) == {"default"}


def test_a_higher_layer_wins_and_is_named_as_the_origin(tmp_path: Path) -> None:
    write(tmp_path, "[reach]\nport = 1\nhost = '127.0.0.2'\n[run]\nslots = 2\n")
    loaded = load(tmp_path, {"CATENA__REACH__PORT": "2", "CATENA__RUN__SLOTS": "3"}, {"reach.port": 4})
    assert (loaded.settings.reach.port, loaded.origins["reach.port"]) == (4, "flag")
    assert (loaded.settings.run.slots, loaded.origins["run.slots"]) == (3, "environment")
    assert (loaded.settings.reach.host, loaded.origins["reach.host"]) == ("127.0.0.2", "catena.toml")
    assert loaded.origins["store.max_entries"] == "default"


@given(st.lists(st.sampled_from(["catena.toml", "environment", "flag"]), unique=True), st.permutations([1, 2, 3]))
def test_the_topmost_layer_that_speaks_decides(
    tmp_path_factory: pytest.TempPathFactory, layers: list[str], values: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("state")
    said = dict(zip(("catena.toml", "environment", "flag"), values, strict=True))
    if "catena.toml" in layers:
        write(folder, f"[run]\nslots = {said['catena.toml']}\n")
    environ = {"CATENA__RUN__SLOTS": str(said["environment"])} if "environment" in layers else {}
    flags = {"run.slots": said["flag"]} if "flag" in layers else {}
    loaded = load(folder, environ, flags)
    top = next((name for name in ("flag", "environment", "catena.toml") if name in layers), "default")
    assert loaded.origins["run.slots"] == top
    assert loaded.settings.run.slots == said.get(top, Settings().run.slots)


@given(st.sampled_from(KEYS), st.data())
def test_a_mistyped_key_is_refused_with_the_nearest_name(key: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(key.index(".") + 1, len(key) - 1))
    mistyped = key[:position] + "x" + key[position:]
    with pytest.raises(ConfigError) as caught:
        config.load(Path("nowhere"), environ={}, flags={mistyped: 1})
    assert caught.value.param == mistyped
    assert "did you mean" in caught.value.hint


def test_the_nearest_name_is_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no setting 'reach\.prot'") as caught:
        load(write(tmp_path, "[reach]\nprot = 1\n"))
    assert caught.value.hint == "did you mean 'reach.port'?"


def test_a_key_like_no_other_points_to_the_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"CATENA__QQQQ__WWWW": "1"})
    assert caught.value.hint == "see `catena config show`"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reach.port", 65_536),
        ("reach.port", -1),
        ("run.slots", 0),
        ("run.slots", 257),
        ("reach.ping_s", 0),
        ("store.max_entries", 0),
        ("run.idle_unload_s", -0.5),
        ("watch.batch_records", 0),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(tmp_path: Path, key: str, value: float) -> None:
    section, name = key.split(".")
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, f"[{section}]\n{name} = {value}\n"))
    assert caught.value.param == key
    with pytest.raises(ConfigError):
        load(tmp_path / "empty", {f"CATENA__{section}__{name}".upper(): str(value)})


def test_the_file_is_typed_but_the_environment_is_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load(write(tmp_path, '[reach]\nport = "7500"\n'))
    assert load(tmp_path / "empty", {"CATENA__REACH__PORT": "7500"}).settings.reach.port == 7500


def test_a_list_in_the_environment_is_separated_by_commas(tmp_path: Path) -> None:
    environ = {"CATENA__REACH__ALLOWED_HOSTS": "a.example,b.example", "CATENA__REACH__CORS_ORIGINS": "x"}
    reach = load(tmp_path, environ).settings.reach
    assert (reach.allowed_hosts, reach.cors_origins) == (("a.example", "b.example"), ("x",))


def test_variables_that_are_not_settings_are_left_alone(tmp_path: Path) -> None:
    assert load(tmp_path, {"CATENA_HOME": "/x", "CATENA": "1", "PATH": "/bin"}).settings == Settings()


@pytest.mark.parametrize("text", ["[reach", "reach = = 1", "[reach]\nport = 1\nport = 2\n"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"catena\.toml is not valid TOML"):
        load(write(tmp_path, text))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catena.toml").write_bytes(b"[reach]\nhost = '\xff'\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path)


def test_a_key_outside_a_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'port' stands outside a section"):
        load(write(tmp_path, "port = 1\n"))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catena.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_every_setting_can_be_shown_and_set_through_the_environment(tmp_path: Path) -> None:
    for key, value in config.flatten(Settings()).items():
        if isinstance(value, dict):  # a table of names is for the file alone
            continue
        text = ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        loaded = load(tmp_path, {"CATENA__" + key.upper().replace(".", "__"): text})
        assert loaded.origins[key] == "environment", key
        assert loaded.settings == Settings(), key


def test_state_lives_where_it_is_told_to() -> None:
    assert config.home({"CATENA_HOME": "/a/b", "XDG_DATA_HOME": "/c"}) == Path("/a/b")
    assert config.home({"XDG_DATA_HOME": "/c"}) == Path("/c/catena")
    assert config.home({}) == Path.home() / ".local" / "share" / "catena"
    assert config.home({"CATENA_HOME": "here"}) == Path.cwd() / "here"


def test_a_new_state_folder_is_its_owners_only(tmp_path: Path) -> None:
    folder = config.open_home({"CATENA_HOME": str(tmp_path / "deep" / "state")})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert config.open_home({"CATENA_HOME": str(folder)}) == folder


def test_a_state_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        config.open_home({"CATENA_HOME": os.fspath(tmp_path / "file" / "state")})
    assert "CATENA_HOME" in caught.value.hint


PROVIDER = '[[reach.providers]]\nname = "far"\nkind = "openai"\nbase_url = "https://api.example/v1"\n'


def test_providers_are_a_list_of_tables(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, PROVIDER + PROVIDER.replace("far", "further") + 'models = ["a*"]\n'))
    assert [one.name for one in loaded.settings.reach.providers] == ["far", "further"]
    assert loaded.settings.reach.providers[1].models == ("a*",)
    assert loaded.origins["reach.providers"] == "catena.toml"


@pytest.mark.parametrize(
    ("line", "words", "hint"),
    [
        ('base_ulr = "x"', "there is no setting 'base_ulr' in reach.providers[0]", "did you mean 'base_url'?"),
        ("models = 3", "`reach.providers[0].models`", ""),
        ("connect_timeout_s = 0", "`reach.providers[0].connect_timeout_s`", ""),
    ],
)
def test_a_bad_provider_is_refused_by_the_exact_place(tmp_path: Path, line: str, words: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, PROVIDER + line + "\n"))
    assert words in caught.value.message and caught.value.hint == hint


@pytest.mark.parametrize("name", ["key", "api_key", "token", "password"])
def test_a_secret_in_the_file_is_refused_and_never_repeated(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, PROVIDER + f'{name} = "sk-very-secret"\n'))
    assert "sk-very-secret" not in str(caught.value) and "key_env" in caught.value.hint


def test_providers_come_from_the_file_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reach\.providers must be a list of tables") as caught:
        load(tmp_path, {"CATENA__REACH__PROVIDERS": "sk-very-secret"})
    assert "sk-very-secret" not in str(caught.value)


def test_a_table_of_a_section_is_set_key_by_key_in_every_layer(tmp_path: Path) -> None:
    text = '[run.vllm]\npython = "/opt/vllm/bin/python"\narguments = ["--enforce-eager"]\n'
    (tmp_path / "catena.toml").write_text(text)
    loaded = load(tmp_path, environ={"CATENA__RUN__VLLM__SLOTS": "8"})
    served = loaded.settings.run.vllm
    assert (served.python, served.arguments, served.slots) == ("/opt/vllm/bin/python", ("--enforce-eager",), 8)
    assert [loaded.origins[f"run.vllm.{key}"] for key in ("python", "slots", "device")] == [
        "catena.toml",
        "environment",
        "default",
    ]
    assert config.flatten(loaded.settings)["run.vllm.python"] == "/opt/vllm/bin/python"


@pytest.mark.parametrize(
    ("line", "words", "hint"),
    [
        ('pyhton = "x"', "run.vllm.pyhton", "run.vllm.python"),
        ("slots = 0", "run.vllm.slots", ""),
        ('device = "abacus"', "run.vllm.device", ""),
        ("arguments = 3", "run.vllm.arguments", ""),
    ],
)
def test_a_wrong_value_in_a_table_is_refused_by_its_whole_name(
    tmp_path: Path, line: str, words: str, hint: str
) -> None:
    (tmp_path / "catena.toml").write_text(f"[run.vllm]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={})
    assert words in caught.value.message
    assert hint in caught.value.hint
