"""The emulator at one work, its checks off, as a process on its own core: `python -m benchmarks.server WORK FOLDER`."""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from botocore.httpsession import get_cert_path
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.machine import SERVER
from benchmarks.works import Work, works
from crawler.emulator import Options, Throttle, run


@dataclass(frozen=True)
class Server:
    """A running emulator. `env` makes AWS clients talk to it, with none of the caller's own settings."""

    url: str
    env: Mapping[str, str]
    pid: int
    folder: Path

    def as_account(self, account: str) -> dict[str, str]:
        """`env` with keys of that account, whose id the emulator reads in the key's name."""
        return {**self.env, "AWS_ACCESS_KEY_ID": f"ASIA{account}0001", "AWS_SECRET_ACCESS_KEY": "made-up"}

    def stats(self) -> dict[str, Any]:
        """What it has counted since the last `reset`, this question's own connection left out."""
        counted = self._ask("/stats", b"")
        counted["connections"] -= 1
        return counted

    def reset(self) -> None:
        """Count anew."""
        self._ask("/reset", b"{}")

    def cpu(self) -> float:
        """Seconds of CPU that it has used, or 0 where /proc does not tell."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _ask(self, path: str, body: bytes) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=self.env["AWS_CA_BUNDLE"]) if self.url[4] == "s" else None
        # Straight to loopback: no proxy of the environment.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])
        )
        with opener.open(self.url + path, data=body or None, timeout=60) as answer:
            answered: dict[str, Any] = json.load(answer)
        return answered


@contextmanager
def serving(work: Work, *, quick: bool) -> Generator[Server]:
    """Serve the estate of `work` until the block is left."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CRAWLER_"))}
    with TemporaryDirectory() as name:
        folder = Path(name)
        if work.tls:
            _certify(folder)
        size = ["--quick"] if quick else []
        command = [sys.executable, "-m", "benchmarks.server", work.name, name, *size]
        with subprocess.Popen(command, env=inherited, stdout=subprocess.PIPE, text=True) as process:
            try:
                pairs = shlex.split(process.stdout.readline() if process.stdout else "")[1:]
                exported = dict(pair.split("=", 1) for pair in pairs)
                if work.tls:
                    exported["AWS_CA_BUNDLE"] = str(folder / "bundle.pem")
                yield Server(exported["AWS_ENDPOINT_URL"], inherited | exported, process.pid, folder)
            finally:
                process.terminate()


def _certify(folder: Path) -> None:
    """Write a certificate for loopback that vouches for itself, its key, and a bundle of CAs that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emulator")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoded = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "certificate.pem").write_bytes(encoded)
    # Beside all that botocore trusts: to load those is a good part of what a client costs, and no user has less.
    (folder / "bundle.pem").write_bytes(Path(get_cert_path(True)).read_bytes() + encoded)  # noqa: FBT003 - botocore's
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def main(name: str, folder: str, *size: str) -> None:
    """Serve; the first line of output tells the URL."""
    if SERVER >= 0:
        os.sched_setaffinity(0, {SERVER})
    work, tls = works(quick="--quick" in size)[name], None
    if work.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(Path(folder, "certificate.pem"), Path(folder, "key.pem"))
    throttle = Throttle(work.rate, work.burst) if work.rate else None
    run(work.estate, Options(checks=False, tls=tls, throttle=throttle, latency=work.latency))


if __name__ == "__main__":
    main(*sys.argv[1:])
