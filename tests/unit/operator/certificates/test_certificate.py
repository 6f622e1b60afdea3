"""The certificates of the operator: made, kept, and made anew in time."""

import datetime

import pytest
from cryptography import x509

from octavo_operator.certificates.certificate import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, KEY, renewed

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NAMES = ["octavo-metrics-api.octavo-system.svc", "octavo-metrics-api.octavo-system"]


def later(days: int) -> datetime.datetime:
    return NOW + datetime.timedelta(days=days)


def authorities(files: dict[str, bytes]) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(files[AUTHORITY])


def test_the_authority_signs_for_the_names_of_the_service() -> None:
    files = renewed({}, NAMES, NOW)
    (authority,) = authorities(files)
    certificate = x509.load_pem_x509_certificate(files[CERTIFICATE])
    certificate.verify_directly_issued_by(authority)
    named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert named.get_values_for_type(x509.DNSName) == NAMES
    assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc


def test_what_is_sound_is_kept() -> None:
    files = renewed({}, NAMES, NOW)
    assert renewed(files, NAMES, later(50)) == files


def test_a_certificate_is_made_anew_before_it_ends_by_the_same_authority() -> None:
    files = renewed({}, NAMES, NOW)
    after = renewed(files, NAMES, later(65))
    assert (after[AUTHORITY], after[AUTHORITY_KEY]) == (files[AUTHORITY], files[AUTHORITY_KEY])
    assert after[CERTIFICATE] != files[CERTIFICATE]
    x509.load_pem_x509_certificate(after[CERTIFICATE]).verify_directly_issued_by(authorities(after)[0])


def test_a_new_authority_stands_beside_the_former_one() -> None:
    files = renewed({}, NAMES, NOW)
    after = renewed(files, NAMES, later(2500))
    newest, former = authorities(after)
    assert former == authorities(files)[0]
    x509.load_pem_x509_certificate(after[CERTIFICATE]).verify_directly_issued_by(newest)
    assert len(authorities(renewed(after, NAMES, later(5000)))) == 2, "they do not pile up"


@pytest.mark.parametrize("name", [AUTHORITY, AUTHORITY_KEY, CERTIFICATE, KEY])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN NONSENSE-----\n"])
def test_what_is_spoilt_is_made_anew(name: str, content: bytes) -> None:
    after = renewed(renewed({}, NAMES, NOW) | {name: content}, NAMES, NOW)
    x509.load_pem_x509_certificate(after[CERTIFICATE]).verify_directly_issued_by(authorities(after)[0])


def test_other_names_take_another_certificate() -> None:
    files = renewed({}, NAMES, NOW)
    after = renewed(files, ["other.octavo-system.svc"], NOW)
    assert after[AUTHORITY] == files[AUTHORITY]
    assert after[CERTIFICATE] != files[CERTIFICATE]


def test_a_key_that_is_not_the_certificates_is_made_anew() -> None:
    files, others = renewed({}, NAMES, NOW), renewed({}, NAMES, NOW)
    after = renewed(files | {KEY: others[KEY]}, NAMES, NOW)
    assert after[KEY] not in (files[KEY], others[KEY])
