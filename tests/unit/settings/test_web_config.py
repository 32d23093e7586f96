"""The rules of the Prometheus exporter toolkit for its web configuration file, one file a case (webfiles/)."""

import shutil
import ssl
from pathlib import Path

import pytest

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.settings.web_config import WebConfigFile, load
from tests.support.certificates import Certificates, make_certificates

FILES = Path(__file__).with_name("webfiles")
CASES = sorted(FILES.glob("*.yml"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def file(tmp_path: Path, certificates: Certificates) -> Path:
    """A web configuration file beside certificates."""
    shutil.copytree(certificates.directory, tmp_path / "web")
    return tmp_path / "web" / "web.yml"


@pytest.mark.parametrize("case", [case for case in CASES if case.match("*.good.yml")], ids=lambda case: case.name)
def test_good_files(case: Path, file: Path) -> None:
    shutil.copy(case, file)
    load(file)


@pytest.mark.parametrize("case", [case for case in CASES if case.match("*.bad.yml")], ids=lambda case: case.name)
def test_bad_files_get_one_message_with_the_place(case: Path, file: Path) -> None:
    """The first line of each file says what is wrong."""
    shutil.copy(case, file)
    expected = case.read_text().splitlines()[0].removeprefix("# ")
    with pytest.raises(UserError) as caught:
        load(file)
    assert expected in str(caught.value)
    assert str(file) in str(caught.value)


def test_what_the_keys_mean(file: Path) -> None:
    shutil.copy(FILES / "client_certificates.good.yml", file)
    settings, files = load(file)
    assert settings.tls is not None
    assert settings.tls.verify_mode is ssl.CERT_REQUIRED
    assert settings.tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert settings.client_names == ("prometheus.example",)
    assert [each.name for each in files] == ["web.yml", "server.pem", "server.key", "ca.pem"]
    shutil.copy(FILES / "client_certificates_if_given.good.yml", file)
    settings, _ = load(file)
    assert settings.tls is not None
    assert settings.tls.verify_mode is ssl.CERT_OPTIONAL
    shutil.copy(FILES / "tls13_only.good.yml", file)
    settings, _ = load(file)
    assert settings.tls is not None
    assert settings.tls.minimum_version is ssl.TLSVersion.TLSv1_3
    assert settings.tls.verify_mode is ssl.CERT_NONE


def test_without_a_file_everybody_is_served_in_plain() -> None:
    settings = WebConfigFile(None).settings()
    assert (settings.tls, settings.users) == (None, None)


def test_users_and_certificates_are_read_again_when_they_change(file: Path) -> None:
    shutil.copy(FILES / "tls.good.yml", file)
    web = WebConfigFile(file)
    before = web.settings()
    assert web.settings() is before
    make_certificates(file.parent)
    renewed = web.settings()
    assert renewed.tls is not before.tls
    file.write_text(file.read_text() + (FILES / "users.good.yml").read_text())
    assert list(web.settings().users or ()) == ["alice"]


@pytest.mark.parametrize("change", ["", "basic_auth_users: {}", "basic_auth_users: {alice: secret}", "nonsense: 1"])
def test_a_change_that_cannot_be_used_or_opens_the_door_is_not_taken(
    file: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(FILES / "users.good.yml", file)
    web = WebConfigFile(file)
    before = web.settings()
    file.write_text(change)
    assert web.settings() is before
    assert web.settings() is before
    assert len(caplog.records) == 1, "one line in the log"
    file.unlink()
    assert web.settings() is before
    shutil.copy(FILES / "users.good.yml", file)
    assert web.settings().users == before.users


def test_a_certificate_that_comes_after_the_file_that_names_it_is_taken(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow_trace_exporter.settings.web_config.RETRY_S", 0)
    shutil.copy(FILES / "tls.good.yml", file)
    web = WebConfigFile(file)
    before = web.settings()
    file.write_text("tls_server_config: {cert_file: new.pem, key_file: server.key}\n")
    assert web.settings() is before
    shutil.copy(file.parent / "server.pem", file.parent / "new.pem")
    assert web.settings() is not before


def test_a_certificate_that_is_half_written_is_not_taken(file: Path) -> None:
    shutil.copy(FILES / "tls.good.yml", file)
    web = WebConfigFile(file)
    before = web.settings()
    certificate = (file.parent / "server.pem").read_text()
    (file.parent / "server.pem").write_text(certificate[:100])
    assert web.settings() is before
    (file.parent / "server.pem").write_text(certificate)
    assert web.settings() is not before


def test_tls_does_not_come_or_go_while_it_runs(file: Path) -> None:
    shutil.copy(FILES / "tls.good.yml", file)
    web = WebConfigFile(file)
    file.write_text("http_server_config: {http2: false}\n")
    assert web.settings().tls is not None
