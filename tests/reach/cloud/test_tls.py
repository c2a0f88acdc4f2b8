"""Certificates are checked, against the system's authorities and those that a provider's settings name."""

from __future__ import annotations

import ipaddress
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.abc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.providers.server import provider
from tests.reach.cloud.conftest import KEY, Place, asking

from catena.core.errors import ConfigError, NetworkError
from catena.core.messages import Egress, collect
from catena.core.settings import ProviderSettings
from catena.reach.cloud.cloud import Cloud
from catena.reach.cloud.configured import configured
from catena.reach.ticket import Caller

pytestmark = pytest.mark.anyio
BROKEN = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, host: str = ""
) -> bytes:
    """A certificate for `host`, or without one for an authority."""
    today = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(today - timedelta(1))
    made = made.not_valid_after(today + timedelta(1))
    made = made.add_extension(x509.BasicConstraints(ca=not host, path_length=None), critical=True)
    if host:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        made = made.add_extension(names, critical=False)
    return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext, ssl.SSLContext]:
    """An authority's file, a server with its certificate for 127.0.0.1, and one with that for another address."""
    root = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ca.pem").write_bytes(certificate("test authority", "test authority", root, root))
    contexts: list[ssl.SSLContext] = []
    for host in ("127.0.0.1", "127.0.0.9"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = tmp_path / f"{host}.pem"
        path.write_bytes(private + certificate(host, "test authority", key, root, host))
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        contexts[-1].load_cert_chain(path)
    return tmp_path / "ca.pem", contexts[0], contexts[1]


async def ask(tls: ssl.SSLContext, ca_file: str, proxy: str = "", left: list[Egress] | None = None) -> str:
    with provider("openai", tls) as made:
        one = ProviderSettings("far", "openai", made.url, key_env="FAR_KEY", ca_file=ca_file, proxy=proxy)
        cloud = Cloud([one], {"FAR_KEY": KEY})
        try:
            place = Place(made, cloud)
            async with place.router.generate(asking(), Caller()) as answer:
                return (await collect(answer.events)).choices[0].text
        finally:
            await cloud.close()
            if left is not None:
                left += [record for record in place.log.records if isinstance(record, Egress)]  # type: ignore[misc]


def digest_of(authority: Path) -> str:
    """Of the certificate for 127.0.0.1 that lies beside the authority's."""
    (made,) = x509.load_pem_x509_certificates((authority.parent / "127.0.0.1.pem").read_bytes())
    return "sha256:" + made.fingerprint(hashes.SHA256()).hex()


async def test_the_record_names_the_certificate_that_was_checked(
    authority: tuple[Path, ssl.SSLContext, ssl.SSLContext],
) -> None:
    left: list[Egress] = []
    await ask(authority[1], str(authority[0]), left=left)
    (record,) = left
    assert record.certificate == digest_of(authority[0]) and record.tls.startswith("TLSv1.")


async def test_an_authority_that_settings_name_is_trusted(
    authority: tuple[Path, ssl.SSLContext, ssl.SSLContext],
) -> None:
    assert await ask(authority[1], str(authority[0])) == "Hello world"


async def test_an_unknown_authority_and_another_hosts_certificate_are_not(
    authority: tuple[Path, ssl.SSLContext, ssl.SSLContext],
) -> None:
    for tls, ca_file in ((authority[1], ""), (authority[2], str(authority[0]))):
        with pytest.raises(NetworkError, match="provider 'far' cannot be reached"):
            await ask(tls, ca_file)


class Tunnel:
    """A proxy that takes CONNECT, and keeps what passes it from the client."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.passed = bytearray()

    async def serve(self, near: anyio.abc.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await near.receive()
        self.heads.append(head)
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        async with near, await anyio.connect_tcp(host, int(port)) as far:
            await near.send(b"HTTP/1.1 200 OK\r\n\r\n")
            async with anyio.create_task_group() as group:
                group.start_soon(self._pass, near, far, True)
                await self._pass(far, near, False)
                group.cancel_scope.cancel()

    async def _pass(self, source: anyio.abc.SocketStream, target: anyio.abc.SocketStream, keeps: bool) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for piece in source:
                if keeps:
                    self.passed += piece
                await target.send(piece)
            await target.send_eof()


async def test_a_proxy_is_a_tunnel_that_sees_no_content(
    authority: tuple[Path, ssl.SSLContext, ssl.SSLContext],
) -> None:
    tunnel = Tunnel()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, tunnel.serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        left: list[Egress] = []
        assert await ask(authority[1], str(authority[0]), f"http://127.0.0.1:{port}", left) == "Hello world"
        group.cancel_scope.cancel()
    assert tunnel.heads[0].startswith(b"CONNECT 127.0.0.1:") and b"user-agent: catena" in tunnel.heads[0].lower()
    opening, request = left
    assert (opening.kind, opening.num_bytes, opening.certificate) == ("tunnel", len(tunnel.heads[0]), None)
    assert (request.kind, request.certificate) == ("request", digest_of(authority[0]))
    assert opening.host == request.host and opening.proxy == request.proxy == request.address == f"127.0.0.1:{port}"
    assert b"authorization" not in tunnel.heads[0].lower() and KEY.encode() not in tunnel.heads[0]
    assert len(tunnel.passed) > 100 and b"Hi" not in tunnel.passed and b"chat/completions" not in tunnel.passed


@pytest.mark.parametrize(
    ("text", "words"), [(None, "cannot be read"), ("hello", "holds no certificate"), (BROKEN, "holds no certificate")]
)
async def test_a_file_without_certificates_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    one = ProviderSettings("far", "openai", "https://api.example/v1", ca_file=str(path))
    with pytest.raises(ConfigError, match=f"provider 'far': ca_file {words}"):
        configured([one], {})
