"""The configuration of nginx as text. tests/contract/test_nginx.py runs it."""

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE

from octavo_runtime.nginx.configuration import configuration

BACKENDS = ["10.0.0.1:8000", "model.example.org:80", "[fd00::1]:8000"]


def words(text: str) -> list[list[str]]:
    """The directives without comments, each as its words."""
    bare = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return [part.split() for part in re.split(r"[;{}]\s", bare) if part.strip()]


def test_what_is_asked_for_is_there():
    made = words(configuration(BACKENDS, listen="127.0.0.1:9000", max_body="32m", read_timeout="5m"))
    assert [line[1] for line in made if line[0] == "server" and len(line) > 1] == BACKENDS
    for line in (
        ["least_conn"],
        ["listen", "127.0.0.1:9000"],
        ["client_max_body_size", "32m"],
        ["proxy_read_timeout", "300000ms"],
        ["proxy_buffering", "off"],
        ["proxy_http_version", "1.1"],
    ):
        assert line in made
    names = {line[0] for line in made}
    assert not names & {"ssl_certificate", "pid", "proxy_temp_path"}


def test_tls_and_a_folder_of_its_own():
    made = words(configuration(BACKENDS, tls_cert="/a/cert.pem", tls_key="/a/key.pem", state="/run/octavo/"))
    for line in (
        ["listen", "8080", "ssl"],
        ["ssl_certificate", "/a/cert.pem"],
        ["ssl_certificate_key", "/a/key.pem"],
        ["ssl_protocols", "TLSv1.2", "TLSv1.3"],
        ["pid", "/run/octavo/nginx.pid"],
        ["client_body_temp_path", "/run/octavo/body"],
    ):
        assert line in made


BAD = [
    ({"backends": [""]}, "backends: must be HOST:PORT"),
    ({"backends": ["a"]}, "got 'a'"),
    ({"backends": ["http://a:80"]}, "got 'http://a:80'"),
    ({"backends": ["a:80;}"]}, "backends: must be HOST:PORT"),
    ({"backends": ["a b:80"]}, "backends: must be HOST:PORT"),
    ({"backends": ["unix:/x:80"]}, "backends: must be HOST:PORT"),
    ({"backends": ["[::g]:80"]}, "got '[::g]:80'"),
    ({"backends": ["::1:80"]}, "got '::1:80'"),
    ({"backends": ["a:0"]}, "backends: ports are from 1 to 65535, got '0'"),
    ({"backends": ["a:65536"]}, "got '65536'"),
    ({"backends": ["a:²"]}, "backends: "),
    ({"backends": ["a:80", "a:080"]}, "backends: must each be named once, got a:80 twice"),
    ({"listen": "x"}, "listen: must be HOST:PORT"),
    ({"listen": "99999"}, "listen: ports are from 1 to 65535, got '99999'"),
    ({"tls_cert": "/a"}, "tls_cert, tls_key: must be given both or neither"),
    ({"tls_cert": "cert.pem", "tls_key": "/k"}, "tls_cert: must be an absolute path"),
    ({"tls_cert": "/a;b", "tls_key": "/k"}, "got '/a;b'"),
    ({"tls_cert": "/", "tls_key": "/k"}, "tls_cert: must be an absolute path below /"),
    ({"tls_cert": "/c", "tls_key": "//"}, "tls_key: must be an absolute path below /"),
    ({"tls_cert": "", "tls_key": ""}, "tls_cert: must be an absolute path below /"),
    ({"state": "/"}, "state: must be an absolute path below /"),
    ({"state": "/a\nuser root"}, "state: must be an absolute path"),
    ({"max_body": "0"}, "max_body: must be from 1 to 1g bytes, such as 16m, got '0'"),
    ({"max_body": "2g"}, "got '2g'"),
    ({"max_body": "16Mi"}, "got '16Mi'"),
    ({"read_timeout": "0s"}, "read_timeout: must be from 1s to 24h, got '0s'"),
    ({"read_timeout": "10"}, "read_timeout: must be a duration such as 500ms, 300s or 5m, got '10'"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_values_are_one_line(options, message):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        configuration(**{"backends": BACKENDS, **options})
    assert message in str(refused.value)


@settings(deadline=None)
@given(st.sampled_from(["backends", "listen", "tls_cert", "max_body", "read_timeout", "state"]), st.text(max_size=20))
def test_no_text_adds_a_directive(name, text):
    def options(value: str) -> dict:
        given = {"backends": BACKENDS, name: [value] if name == "backends" else value}
        return given | ({"tls_key": "/k"} if name == "tls_cert" else {})

    harmless = {
        "backends": "a:1",
        "listen": "1",
        "tls_cert": "/a",
        "state": "/a",
        "max_body": "1",
        "read_timeout": "1s",
    }
    try:
        made = words(configuration(**options(text)))
    except ValueError:
        return
    expected = words(configuration(**options(harmless[name])))
    assert [line[0] for line in made] == [line[0] for line in expected]


def test_the_command():
    command = [sys.executable, "-m", "octavo_runtime", "nginx", "--backends"]
    done = subprocess.run([*command, "a:8000, b:8000"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == configuration(["a:8000", "b:8000"])
    done = subprocess.run([*command, "a:8000,b"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("octavo: backends: must be HOST:PORT")
