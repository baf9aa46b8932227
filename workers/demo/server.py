"""A private S3 server that holds the demo's bucket, for as long as it is needed."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUCKET = "media"


def use_private_server_only() -> None:
    """Give this process and its children the server's credentials (it takes any, boto3 wants to
    have some), and keep the user's own AWS profile and proxy out of it."""
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update(
        AWS_ACCESS_KEY_ID="demo",
        AWS_SECRET_ACCESS_KEY="demo",  # noqa: S106  the private server takes any
        AWS_DEFAULT_REGION="us-east-1",
    )
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))


@contextmanager
def bucket_server(folder: Path) -> Iterator[str]:
    """Serve the files under ``folder`` as the bucket :data:`BUCKET`; gives the endpoint's URL.

    The credentials come from the environment (:func:`use_private_server_only`).
    """
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket=BUCKET)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = path.relative_to(folder).as_posix()
                client.upload_file(os.fspath(path), BUCKET, key)
        yield endpoint
    finally:
        server.stop()
