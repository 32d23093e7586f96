"""Certificates for tests: those of a server and a client, by an authority of their own."""

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True)
class Certificates:
    """Files in one directory: ca.pem, server.pem and .key, client.pem and .key, other.key, encrypted.key."""

    directory: Path

    @property
    def ca(self) -> str:
        """Whom a client has to trust."""
        return str(self.directory / "ca.pem")

    @property
    def client(self) -> tuple[str, str]:
        """The certificate and the key of prometheus.example."""
        return str(self.directory / "client.pem"), str(self.directory / "client.key")


def make_certificates(directory: Path) -> Certificates:
    """New ones, from a new authority, in a directory; those that are there are replaced."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    for name, host in (("server", "127.0.0.1"), ("client", "prometheus.example"), ("other", "other.example")):
        made = authority.issue_cert(host)
        made.cert_chain_pems[0].write_to_path(str(directory / f"{name}.pem"))
        made.private_key_pem.write_to_path(str(directory / f"{name}.key"))
    key = serialization.load_pem_private_key((directory / "server.key").read_bytes(), None)
    (directory / "encrypted.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return Certificates(directory)
