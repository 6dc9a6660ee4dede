"""X.509 as the bus needs it: an authority of our own, and servers' certificates by it. ECDSA on P-256."""

import datetime
import ipaddress
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ebbgate_usher.core.renewal import AUTHORITY_DAYS, DAY_S, SERVER_DAYS, Certificate

SKEW_S = 300
"""Clocks differ: a certificate is valid a little before it was made."""


class Pair(msgspec.Struct, frozen=True):
    """PEM."""

    certificate: bytes
    key: bytes


class Unreadable(Exception):
    """Not a certificate, or not its key."""


def make_authority(now_s: float) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Ebbgate bus {int(now_s)}")])
    builder = _builder(name, name, key, now_s, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    return _pair(builder.sign(key, hashes.SHA256()), key)


def make_server(authority: Pair, names: Sequence[str], now_s: float) -> Pair:
    """`names`: DNS names (`*.` at the front is possible) and addresses; also for the routes of a cluster,
    where a server is a client, too. Raises Unreadable.
    """
    signer, signing_key = _read(authority.certificate), _read_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ebbgate NATS")])
    days = min(SERVER_DAYS, (signer.not_valid_after_utc.timestamp() - now_s) / DAY_S)
    builder = _builder(subject, signer.subject, key, now_s, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_name, names))), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return _pair(builder.sign(signing_key, hashes.SHA256()), key)


def describe(pem: bytes) -> Certificate:
    """Raises Unreadable."""
    found = _read(pem)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    return Certificate(
        id=_key_id(found.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest),
        issuer=_issuer(found),
        since_s=found.not_valid_before_utc.timestamp() + SKEW_S,
        until_s=found.not_valid_after_utc.timestamp(),
        names=tuple(str(name.value) for name in names),
    )


def _issuer(certificate: x509.Certificate) -> str:
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return ""
    return _key_id(identifier.value.key_identifier or b"")


def _key_id(digest: bytes) -> str:
    return digest.hex()[:16]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now_s: float, days: float
) -> x509.CertificateBuilder:
    since = datetime.datetime.fromtimestamp(now_s - SKEW_S, datetime.UTC)
    until = datetime.datetime.fromtimestamp(now_s + days * DAY_S, datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), secret)


def _read(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Unreadable("not a certificate in PEM") from error


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise Unreadable("not a private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Unreadable("not an elliptic curve's key")
    return key
