"""Is a certificate good, and for how long: against servers with certificates of the test's own authority."""

import socket
import time

import pytest

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.tls import probe, record_certificate
from services.massive.probes.probers.trace import Trace
from services.massive.targets import Tls
from support.rig.certificates import Authority
from support.rig.process import HOST
from support.rig.web_site import Site

pytestmark = pytest.mark.needs("openssl")


def target(site, authority, **more):
    return Tls(name="a", host=HOST, port=site.port, ca_file=str(authority.ca), **more)


async def test_a_good_certificate_is_well_and_says_for_how_long(authority, context):
    with Site(certificate=authority.certificate("good", days=30)) as site:
        found = await probe(target(site, authority), context)
    assert (found.stage, found.error, found.warning) == ("done", None, None)
    assert 29.5 < found.facts["days_left"] <= 30
    assert found.facts["tls"] == "TLSv1.3"
    assert found.facts["issuer"] == "an authority"
    assert found.facts["ends_at"] > time.time() + 29 * 86_400
    assert set(found.ms) == {"dns", "tcp", "tls", "total"}


def test_an_issuer_is_called_by_its_organization_and_else_by_its_common_name():
    class Handshake:
        def __init__(self, *names):
            self.names = names

        def version(self):
            return "TLSv1.3"

        def getpeercert(self):
            return {"issuer": tuple((name,) for name in self.names)}

    for names, said in (
        ((("countryName", "XX"), ("organizationName", "Example CA"), ("commonName", "R3")), "Example CA"),
        ((("commonName", "R3"),), "R3"),
        ((("countryName", "XX"),), None),
        ((), None),
    ):
        trace = Trace("tls", "h:1")
        record_certificate(Handshake(*names), trace, 14.0, 0.0)
        assert trace.facts.get("issuer") == said


async def test_one_that_says_no_more_of_itself_than_most_clients_ask_is_good_too(authority, context):
    with Site(certificate=authority.certificate("bare", bare=True)) as site:
        found = await probe(target(site, authority), context)
    assert (found.stage, found.error) == ("done", None)


async def test_one_that_ends_soon_is_up_with_a_warning(authority, context):
    with Site(certificate=authority.certificate("soon", days=5)) as site:
        found = await probe(target(site, authority), context)
        patient = await probe(target(site, authority, warn_days=3), context)
    assert (found.ok, found.warning) == (True, "ends_soon")
    assert (patient.ok, patient.warning) == (True, None)


@pytest.mark.parametrize(
    ("word", "how"),
    [("expired", {"days": -1}), ("wrong_name", {"address": "127.0.0.9"}), ("untrusted", None)],
)
async def test_what_is_wrong_with_a_certificate_has_a_word(word, how, authority, context):
    """A certificate that nobody vouches for is untrusted."""
    made = authority.self_signed(word) if how is None else authority.certificate(word, **how)
    with Site(certificate=made) as site:
        found = await probe(target(site, authority), context)
    assert (found.stage, found.error) == ("tls", word)


async def test_whom_the_system_does_not_trust_is_untrusted(authority, context):
    with Site(certificate=authority.certificate("good2")) as site:
        found = await probe(Tls(name="a", host=HOST, port=site.port), context)
    assert found.error == "untrusted"


async def test_the_name_that_is_asked_for_is_the_one_to_be_found(authority, context):
    named = authority.certificate("named", address="127.0.0.9,DNS:shop.example")
    with Site(certificate=named) as site:
        right = await probe(target(site, authority, server_name="shop.example"), context)
        wrong = await probe(target(site, authority, server_name="other.example"), context)
        assert site.names == ["shop.example", "other.example"]
    assert (right.error, wrong.error) == (None, "wrong_name")


async def test_what_speaks_no_tls_is_told_from_what_does_not_answer(authority, context):
    with Site() as plain:
        found = await probe(target(plain, authority), context)
    assert (found.stage, found.error) in {("tls", "tls_failed"), ("tls", "reset")}


async def test_a_handshake_that_hangs_costs_its_time_limit(authority, context):
    with socket.create_server((HOST, 0)) as mute:
        port = mute.getsockname()[1]
        quick = ProbeContext(1.5, context.look_up)
        found = await probe(Tls(name="a", host=HOST, port=port, ca_file=str(authority.ca)), quick)
    assert (found.stage, found.error) == ("tls", "timeout")


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
async def test_an_authority_that_can_not_be_read_is_our_own_mistake(content, tmp_path, authority, context):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with Site(certificate=authority.certificate("good3")) as site:
        found = await probe(Tls(name="a", host=HOST, port=site.port, ca_file=str(file)), context)
    assert found.error == "no_ca_file"


async def test_an_authority_that_changes_is_read_again(tmp_path, authority, context):
    other = Authority(tmp_path / "other")
    file = tmp_path / "ca.pem"
    file.write_bytes(other.ca.read_bytes())
    with Site(certificate=authority.certificate("good4")) as site:
        wanted = Tls(name="a", host=HOST, port=site.port, ca_file=str(file))
        before = await probe(wanted, context)
        file.write_bytes(authority.ca.read_bytes() + b"\n")
        after = await probe(wanted, context)
    assert (before.error, after.error) == ("untrusted", None)
