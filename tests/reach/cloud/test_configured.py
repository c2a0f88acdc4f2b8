"""A wrong provider is refused with the setting, the reason and the nearest right value; a right one is as it says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from catena.core import config
from catena.core.errors import ConfigError, MissingExtraError, ProviderError
from catena.core.settings import ProviderSettings
from catena.reach.cloud.cloud import Cloud
from catena.reach.cloud.configured import End, configured
from catena.reach.cloud.services import services
from catena.run.dialects.dialect import Adaptable
from catena.run.dialects.openai import QUIRKS

GOOD: dict[str, Any] = {"name": "far", "kind": "openai", "base_url": "https://api.example/v1"}


def end(environ: dict[str, str] | None = None, **settings: Any) -> End:
    (found,) = configured([ProviderSettings(**{**GOOD, **settings})], environ or {}).values()
    return found


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"kind": "opnai"}, "provider 'far': kind 'opnai' is unknown", "did you mean 'openai'?"),
        ({"kind": ""}, "provider 'far': kind is missing", ""),
        ({"service": "deepsek"}, "provider 'far': service 'deepsek' is unknown", "did you mean 'deepseek'?"),
        ({"base_url": ""}, "provider 'far': base_url is missing", ""),
        ({"base_url": "api.example/v1"}, "provider 'far': base_url is not an address", ""),
        ({"base_url": "ftp://api.example"}, "provider 'far': base_url is not an address", ""),
        ({"base_url": "https://api.example:99999"}, "provider 'far': base_url is not an address", ""),
        ({"base_url": "https://me:secret@api.example"}, "provider 'far': base_url holds a name or password", ""),
        ({"base_url": "https://api.example/v1?key=secret"}, "provider 'far': base_url has a query or fragment", ""),
        (
            {"base_url": "http://api.example/v1"},
            "provider 'far': base_url sends everything to api.example unencrypted",
            "use https://, or set allow_plain_http = true for a network that you trust",
        ),
        ({"name": "Far Away"}, "reach.providers[0]: 'Far Away' is no name for a provider", ""),
        ({"key_env": "sk-secret-123"}, "provider 'far': key_env is not the name of an environment variable", ""),
        ({"key_keyring": "alone"}, "provider 'far': key_keyring is not SERVICE/USER", ""),
        ({"quirks": ("max_completion_token",)}, "quirks 'max_completion_token' is unknown to openai", "did you mean"),
        ({"models": ()}, "provider 'far': models is empty", ""),
        ({"proxy": "proxy:3128"}, "provider 'far': proxy is not http://HOST:PORT", ""),
        ({"proxy": "http://me:secret@proxy:3128"}, "provider 'far': proxy is not http://HOST:PORT", ""),
        ({"proxy": "http://p:1", "base_url": "http://[::1]:8"}, "provider 'far': proxy would see everything", ""),
    ],
)
def test_a_wrong_setting_is_refused_exactly(settings: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        end(**settings)
    assert message in caught.value.message and caught.value.hint.startswith(hint)
    assert "secret" not in str(caught.value)


def test_two_providers_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two providers are called 'far'"):
        configured([ProviderSettings(**GOOD)] * 2, {})


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://api.example/v1", "api.example"),
        ("https://api.example:443", "api.example"),
        ("https://api.example:8443/x/", "api.example:8443"),
        ("http://127.0.0.1:8000/v1", "127.0.0.1:8000"),
        ("http://localhost:11434", "localhost:11434"),
        ("http://[::1]:9", "[::1]:9"),
    ],
)
def test_the_host_is_named_as_it_is_reached(address: str, host: str) -> None:
    assert end(base_url=address).host == host


def test_plain_http_beyond_loopback_is_possible_when_it_is_wanted() -> None:
    assert end(base_url="http://10.0.0.7:8000/v1", allow_plain_http=True).host == "10.0.0.7:8000"


def test_a_service_fills_in_what_is_left_out() -> None:
    found = end({"DEEPSEEK_API_KEY": " k "}, kind="", base_url="", service="deepseek")
    assert (found.kind, found.host, found.key.read()) == ("openai", "api.deepseek.com", "k")
    assert end({"MINE": "m"}, service="deepseek", key_env="MINE").key.read() == "m"


def test_a_provider_without_a_key_needs_none() -> None:
    assert end().key.read() is None and not end().key.is_needed


def test_a_key_with_a_line_break_is_refused_before_it_becomes_a_header() -> None:
    with pytest.raises(ProviderError, match="characters that no header can carry") as caught:
        end({"K": "sk-a\nx: y"}, key_env="K").key.read()
    assert "sk-a" not in str(caught.value)


def test_a_key_may_come_from_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    class KeyringError(Exception):
        pass

    asked: list[tuple[str, str]] = []

    def get_password(service: str, user: str) -> str | None:
        asked.append((service, user))
        if user == "locked":
            raise KeyringError
        return "from-the-ring" if user == "me" else None

    fake = SimpleNamespace(get_password=get_password, errors=SimpleNamespace(KeyringError=KeyringError))
    monkeypatch.setitem(sys.modules, "keyring", fake)  # type: ignore[arg-type]
    assert end(key_keyring="catena/me").key.read() == "from-the-ring"
    assert end({"K": "from-the-variable"}, key_env="K", key_keyring="catena/me").key.read() == "from-the-variable"
    for user in ("nobody", "locked"):
        with pytest.raises(ProviderError):
            end(key_keyring=f"catena/{user}").key.read()
    assert ("catena", "me") in asked


def test_a_keyring_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError, match="keyring is not installed"):
        end(key_keyring="catena/me").key.read()


@pytest.mark.parametrize("name", sorted(services()))
def test_every_service_of_the_table_makes_a_provider(name: str) -> None:
    service = services()[name]
    found = end(kind="", service=name, base_url=service.base_url or "https://own.example/v1")
    assert found.kind == service.kind and service.source.startswith(("https://", "../"))
    assert isinstance(found.dialect, Adaptable) or not service.quirks


OUTSIDE = """\
from catena.run.dialects.openai import OpenAI

class Whisper(OpenAI):
    name = "whisper"

    def headers(self, key):
        return {"x-whisper": key or ""}

dialect = Whisper()
"""


@pytest.mark.anyio
async def test_a_dialect_from_outside_is_one_file_and_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whispering.py").write_text(OUTSIDE)
    info = tmp_path / "whispering-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: whispering\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[catena.dialects]\nwhisper = whispering:dialect\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    try:
        from tests.providers.server import provider

        with provider("openai") as made:
            one = ProviderSettings("far", "whisper", made.url, key_env="K")
            cloud = Cloud([one], {"K": "quiet"})
            assert [model.name for model in await cloud.ask_models("far")] == ["far/big", "far/small"]
            await cloud.close()
        assert made.asked[0].headers["x-whisper"] == "quiet"
    finally:
        sys.modules.pop("whispering", None)


GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "providers.md").read_text()


def test_the_settings_of_the_guide_are_good_ones(tmp_path: Path) -> None:
    (tmp_path / "catena.toml").write_text(GUIDE.partition("```toml\n")[2].partition("```")[0])
    found = configured(config.load(tmp_path, environ={}).settings.reach.providers, {})
    assert [(one.name, one.kind, one.host) for one in found.values()] == [
        ("deepseek", "openai", "api.deepseek.com"),
        ("gpu", "openai", "gpu.example.org:8000"),
    ]


@pytest.mark.parametrize("name", sorted(services()))
def test_the_guide_lists_every_service_as_the_table_has_it(name: str) -> None:
    service = services()[name]
    quirks = ", ".join(f"`{quirk}`" for quirk in service.quirks) or "—"
    address = f"`{service.base_url}`" if service.base_url else "yours"
    key = f"`{service.key_env}`" if service.key_env else "none"
    row = f"| `{name}` | [{service.title}]({service.source}) | {service.kind} | {address} | {key} | {quirks} |"
    assert row in GUIDE
    assert not service.note or f"- `{name}`: {service.note}." in " ".join(GUIDE.split())


def test_the_guide_explains_every_quirk_and_setting() -> None:
    for quirk in QUIRKS:
        assert f"`{quirk}`" in GUIDE or (quirk.startswith("no_") and "`no_…`" in GUIDE), quirk
    for name in ProviderSettings.__struct_fields__:
        assert f"`{name}`" in GUIDE, name
