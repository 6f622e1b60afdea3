"""The certificate that a Service of the operator's is served with, and the authority that signs it; both are made anew
in time."""

import datetime
from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY, AUTHORITY_KEY, CERTIFICATE, KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"

_AUTHORITY_LIFE = datetime.timedelta(days=3650)
_LIFE = datetime.timedelta(days=90)
_SKEW = datetime.timedelta(minutes=5)  # clocks differ


def renewed(held: Mapping[str, bytes], names: Sequence[str], now: datetime.datetime) -> dict[str, bytes]:
    """The four files, in PEM: as `held` where each is sound and has more than a third of its life left, else made anew.
    Behind a new authority the former one stays in its file, so that those who know one alone trust both meanwhile.
    `names`: of the server, in DNS."""
    try:
        authority, former = x509.load_pem_x509_certificate(held[AUTHORITY]), held[AUTHORITY]
        signer = _private(held[AUTHORITY_KEY])
        if _is_due(authority, now) or authority.public_key() != signer.public_key():
            raise ValueError("due")
    except (KeyError, ValueError, TypeError):
        signer = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(signer, now)
        former = _pem(authority) + _still_valid(held.get(AUTHORITY, b""), now)
    files = {AUTHORITY: former, AUTHORITY_KEY: _pem_of_key(signer)}
    try:
        certificate, key = x509.load_pem_x509_certificate(held[CERTIFICATE]), _private(held[KEY])
        certificate.verify_directly_issued_by(authority)
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        sound = named.get_values_for_type(x509.DNSName) == list(names) and certificate.public_key() == key.public_key()
        if not sound or _is_due(certificate, now):
            raise ValueError("due")
    except (KeyError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _serving(key, names, authority, signer, now)
    return files | {CERTIFICATE: _pem(certificate), KEY: _pem_of_key(key)}


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "octavo-ca")])
    usage = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key, now, _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _serving(
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "octavo")])
    return (
        _builder(subject, authority.subject, key, now, _LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
    )


def _is_due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - now < life / 3


def _still_valid(authority: bytes, now: datetime.datetime) -> bytes:
    """The newest authority of a file that holds one or two."""
    try:
        newest = x509.load_pem_x509_certificate(authority)
    except ValueError:
        return b""
    return _pem(newest) if newest.not_valid_after_utc > now else b""


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of an elliptic curve")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
