"""A private S3 server that holds the demo's bucket, for as long as it is needed."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUCKET = "media"
#: The server takes any; boto3 wants to have some.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo"}


@contextmanager
def bucket_server(folder: Path) -> Iterator[str]:
    """Serve the files under ``folder`` as the bucket :data:`BUCKET`; gives the endpoint's URL."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=BUCKET)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = path.relative_to(folder).as_posix()
                client.upload_file(os.fspath(path), BUCKET, key)
        yield endpoint
    finally:
        server.stop()
