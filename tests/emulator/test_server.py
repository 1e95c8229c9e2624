from __future__ import annotations

import asyncio
import datetime as dt
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crawler.emulator import MIXED, Emulator, Estate, Options, running, serve

ONE = "000000000001"


@pytest.fixture(scope="module")
def small() -> Estate:
    return Estate.uniform(repositories=3, images=1200, mix=MIXED)


def fetch(emulator: Emulator, path: str, method: str = "GET") -> Any:
    connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=5)
    connection.request(method, path)
    with connection.getresponse() as response:
        body = response.read()
    connection.close()
    return json.loads(body)


def test_checks_off_gives_the_same_content(start: Callable[..., Any], small: Estate) -> None:
    checked, unchecked = start(small), start(small, Options(checks=False))
    for operation, body in [
        ("DescribeRepositories", {"maxResults": 2}),
        (
            "ListImages",
            {"repositoryName": "team-00/service-00000", "maxResults": 1000, "filter": {"imageStatus": "ANY"}},
        ),
        ("ListImages", {"repositoryName": "team-00/service-00000", "filter": {"tagStatus": "UNTAGGED"}}),
    ]:
        bodies = []
        for caller in (checked, unchecked):
            chain: list[bytes] = []
            token: str | None = None
            while not chain or token:
                asked = body | ({"nextToken": token} if token else {})
                answers = [caller.call(operation, asked, keys=caller.assume(ONE)) for _ in range(2)]
                assert answers[0].body == answers[1].body
                chain.append(answers[0].body)
                token = answers[0].json.get("nextToken")
            bodies.append(chain)
        assert bodies[0] == bodies[1]
    stats = unchecked.emulator.stats()
    assert stats["requests"] == checked.emulator.stats()["requests"]


def test_stats_and_reset(start: Callable[..., Any], small: Estate) -> None:
    caller = start(small)
    caller.call("DescribeRepositories", {}, keys=caller.assume(ONE))
    caller.call("ListImages", {"repositoryName": "x/unknown"}, keys=caller.assume(ONE))
    stats = fetch(caller.emulator, "/stats")
    assert stats["requests"]["ecr:DescribeRepositories"] == 1
    assert stats["requests"]["sts:AssumeRole"] == 2
    assert stats["requests_by"][f"{ONE}/us-east-1/ecr:ListImages"] == 1
    assert stats["errors"] == {"RepositoryNotFoundException": 1}
    assert stats["connections"] >= 5
    assert fetch(caller.emulator, "/reset", "POST") == {}
    stats = caller.emulator.stats()
    assert (stats["errors"], stats["assumed_roles"]) == ({}, [])
    caller.emulator.reset()


def test_in_flight_is_counted_under_latency(start: Callable[..., Any], small: Estate) -> None:
    caller = start(small, Options(latency=(0.15, 0.2)))
    ready = threading.Barrier(6)

    def one(number: int) -> int:
        ready.wait()
        name = f"team-{number % 3:02d}/service-{number % 3:05d}"
        return caller.call("ListImages", {"repositoryName": name, "registryId": "999999999999"}).status

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, range(6))) == [400] * 6
    stats = caller.emulator.stats()
    assert stats["peak_in_flight"] == 6
    assert stats["peak_in_flight_by"]["999999999999/us-east-1/ecr:ListImages"] == 6
    assert stats["in_flight"] == 0


def test_pipelined_requests_are_answered_in_order(start: Callable[..., Any], small: Estate) -> None:
    caller = start(small, Options(latency=0.01))

    async def main() -> bytes:
        address = urlsplit(caller.emulator.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        requests = [
            b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        ]
        writer.write(b"".join(requests) + b"GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = await reader.read()
        writer.close()
        await writer.wait_closed()
        return got

    assert re.findall(rb"HTTP/1.1 (\d+)", asyncio.run(main())) == [b"200", b"404", b"200"]


def test_what_is_not_http_is_refused(start: Callable[..., Any], small: Estate) -> None:
    async def main() -> bytes:
        address = urlsplit(start(small).emulator.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"\x16\x03\x01 is TLS\r\n\r\n")
        got = await reader.read()
        writer.close()
        await writer.wait_closed()
        return got

    assert asyncio.run(main()).startswith(b"HTTP/1.1 400 ")


def test_serves_in_a_running_loop(small: Estate) -> None:
    async def main() -> Any:
        async with (
            serve(small) as emulator,
            aiohttp.ClientSession() as session,
            session.get(emulator.url + "/stats") as answer,
        ):
            return await answer.json()

    assert asyncio.run(main())["requests"] == {}


def test_leaving_closes_what_hangs(small: Estate) -> None:
    with running(small, Options(latency=3600)) as emulator:
        connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=5)
        connection.request("POST", "/", b"")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()


def test_a_port_in_use_is_an_error_at_once(small: Estate) -> None:
    with running(small) as emulator:
        port = urlsplit(emulator.url).port or 0
        with pytest.raises(OSError, match=r"[Aa]ddress"), running(small, port=port):
            pass


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    host = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    made = made.add_extension(host, critical=False).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "localhost.pem"
    file.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(pem))
    return file


def test_tls(small: Estate, tmp_path: Path) -> None:
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with running(small, Options(tls=context), host="localhost") as emulator:
        env = emulator.environment()
        session = boto3.Session(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
        sts = session.client("sts", region_name="us-east-1", endpoint_url=emulator.url, verify=str(file))
        assert emulator.url.startswith("https://")
        assert sts.get_caller_identity()["Account"] == "999999999999"
        sts.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_as_a_process(number: int) -> None:
    program = "from crawler.emulator import Estate, run; run(Estate([]))"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("export AWS_ENDPOINT_URL=http://127.0.0.1:")
        process.send_signal(number)
        assert (process.wait(5), process.stdout.read(), process.stderr.read()) == (0, "", "")
