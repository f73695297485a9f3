from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from appliance.errors import SettingsError
from appliance.gateway.tls import Tls
from tests.fakes import certificate
from tests.fakes.certificate import Pair

V1_1, V1_2, V1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return certificate.make(tmp_path)


def put(new: Pair, place: Pair) -> None:
    """As whoever renews certificates does: other files in the place of the old ones."""
    new.certificate.rename(place.certificate)
    new.key.rename(place.key)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["inferfly"][0] for record in caplog.records]


class Shaken(NamedTuple):
    """What two sides agreed on."""

    version: str | None
    cipher: str
    certificate: bytes | None
    protocol: str | None


def shake(server: ssl.SSLContext, *, version: ssl.TLSVersion | None = None, ciphers: str = "") -> Shaken:
    """A handshake, in memory, with a client that speaks this version and these ciphers. Raises SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    if ciphers:
        context.set_ciphers(ciphers)
    if version is not None:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = context.wrap_bio(to_client, to_server)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    _until_done(near, far)
    cipher = near.cipher()
    assert cipher is not None
    return Shaken(
        near.version(), cipher[0], near.getpeercert(binary_form=True), near.selected_alpn_protocol()
    )


def _until_done(*sides: ssl.SSLObject) -> None:
    waiting = list(sides)
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)


def test_tls_is_1_3_unless_told_otherwise(pair: Pair) -> None:
    tls = Tls(pair.certificate, pair.key, "1.3")

    assert shake(tls.context)[:2] == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    with pytest.raises(ssl.SSLError, match="protocol"):
        shake(tls.context, version=V1_2)


GOOD = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]


@pytest.mark.parametrize("cipher", GOOD)
def test_1_2_with_authenticated_ciphers_can_be_asked_for(pair: Pair, cipher: str) -> None:
    tls = Tls(pair.certificate, pair.key, "1.2")

    assert shake(tls.context, version=V1_2, ciphers=cipher)[:2] == ("TLSv1.2", cipher)


BAD = {
    "CBC": (V1_2, "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"),
    "CBC and SHA-1": (V1_2, "ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0"),
    "nobody's certificate": (V1_2, "AECDH:@SECLEVEL=0"),
    "1.1": (V1_1, "ALL:@SECLEVEL=0"),
}


@pytest.mark.parametrize(("version", "ciphers"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("least", ["1.2", "1.3"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_nothing_weaker_is_spoken(
    pair: Pair, least: Literal["1.2", "1.3"], version: ssl.TLSVersion, ciphers: str
) -> None:
    tls = Tls(pair.certificate, pair.key, least)

    with pytest.raises(ssl.SSLError):
        shake(tls.context, version=version, ciphers=ciphers)


def test_every_cipher_is_authenticated_and_keeps_the_past_secret(pair: Pair) -> None:
    ciphers = Tls(pair.certificate, pair.key, "1.2").context.get_ciphers()

    assert {(cipher["aead"], cipher["kea"]) for cipher in ciphers} == {(True, "kx-ecdhe"), (True, "kx-any")}


def test_1_3_is_spoken_where_1_2_is_allowed(pair: Pair) -> None:
    assert shake(Tls(pair.certificate, pair.key, "1.2").context).version == "TLSv1.3"


def test_the_protocol_is_http_1_1(pair: Pair) -> None:
    assert shake(Tls(pair.certificate, pair.key, "1.3").context).protocol == "http/1.1"


def test_sessions_are_not_kept(pair: Pair) -> None:
    """A ticket would tie a caller's connections together, and its key would have to be renewed."""
    context = Tls(pair.certificate, pair.key, "1.3").context

    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET


# Files that can't be used


def another_key(folder: Path, pair: Pair) -> None:
    certificate.make(folder, "b").key.rename(pair.key)


def no_certificate(folder: Path, pair: Pair) -> None:
    pair.certificate.unlink()


def no_pem(folder: Path, pair: Pair) -> None:
    pair.certificate.write_text("CANARY5d1f")


def an_empty_key(folder: Path, pair: Pair) -> None:
    pair.key.write_text("")


def a_passphrase(folder: Path, pair: Pair) -> None:
    put(certificate.make(folder, "b", passphrase="secret"), pair)


BrokenBy = Callable[[Path, Pair], None]
BROKEN: list[BrokenBy] = [another_key, no_certificate, no_pem, an_empty_key, a_passphrase]


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
@pytest.mark.timeout(20)  # OpenSSL must not ask for a passphrase
def test_files_that_cant_be_used_are_the_operators_to_mend(
    tmp_path: Path, pair: Pair, spoil: BrokenBy
) -> None:
    spoil(tmp_path, pair)

    with pytest.raises(SettingsError) as caught:
        Tls(pair.certificate, pair.key, "1.3")

    assert str(pair.key) in caught.value.why
    assert "INFERFLY_TLS_KEY" in caught.value.fix
    assert "CANARY5d1f" not in str(caught.value)
    assert caught.value.__suppress_context__


# Renewal


def test_files_that_stay_are_not_read_again(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "inferfly")
    tls = Tls(pair.certificate, pair.key, "1.3")

    tls.renew()

    assert logged(caplog) == []


def test_a_renewed_certificate_is_what_new_connections_get(
    tmp_path: Path, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "inferfly")
    tls = Tls(pair.certificate, pair.key, "1.3")
    before = shake(tls.context).certificate
    put(certificate.make(tmp_path, "b"), pair)
    tls.renew()
    after = shake(tls.context).certificate

    assert before != after == ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
    assert logged(caplog) == ["certificate_renewed"]


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
@pytest.mark.timeout(20)
def test_a_pair_that_does_not_work_leaves_the_old_one_in_use(
    tmp_path: Path, pair: Pair, caplog: pytest.LogCaptureFixture, spoil: BrokenBy
) -> None:
    caplog.set_level("INFO", "inferfly")
    tls = Tls(pair.certificate, pair.key, "1.3")
    before = shake(tls.context).certificate
    spoil(tmp_path, pair)
    tls.renew()
    tls.renew()
    kept = shake(tls.context).certificate
    put(certificate.make(tmp_path, "c"), pair)
    tls.renew()
    mended = shake(tls.context).certificate

    assert before == kept != mended
    assert logged(caplog) == ["certificate_unusable", "certificate_renewed"]


async def test_a_connection_goes_on_with_the_certificate_that_it_began_with(
    tmp_path: Path, pair: Pair
) -> None:
    tls = Tls(pair.certificate, pair.key, "1.3")
    trusting = ssl.create_default_context(cafile=pair.certificate)
    old = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.context)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    writer.write(b"before\n")
    before = await reader.readline()
    put(certificate.make(tmp_path, "b"), pair)
    tls.renew()
    writer.write(b"after\n")
    after = await reader.readline()
    newcomer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=ssl.create_default_context(cafile=pair.certificate)
    )
    theirs = [one.get_extra_info("ssl_object").getpeercert(binary_form=True) for one in (writer, newcomer[1])]
    for one in (writer, newcomer[1]):
        one.close()
        await one.wait_closed()
    server.close()

    assert (before, after) == (b"before\n", b"after\n")
    assert theirs == [old, ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())]
