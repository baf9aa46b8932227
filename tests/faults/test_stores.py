"""S3 that fails, slows down, breaks off, damages, refuses; objects that change under the hand."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import servers
from faults.content import Content
from faults.injection import Fault
from faults.processes import until
from faults.world import World
from s3_proxy import S3Proxy, S3Rule, s3_proxy

from pipeline.runner import control

#: Of what was submitted, and of what was made of it.
SOURCES, ARTIFACTS = r"/media/[^?]+\.(png|wav|mp4|srt)", r"/artifacts/../../"


class Bucket:
    """A bucket with the media, and a world whose way to it leads through a proxy."""

    def __init__(self, world: World, proxy: S3Proxy, s3: servers.S3Server, name: str) -> None:
        self.world, self.proxy, self.s3, self.name = world, proxy, s3, name

    @property
    def source(self) -> str:
        return f"s3://{self.name}/media"

    def put(self, key: str, body: bytes) -> None:
        """Past the proxy."""
        self.s3.client.put_object(Bucket=self.name, Key=f"media/{key}", Body=body)

    def check(self, expected: Content, **options: Any) -> None:
        self.world.check(expected, **options)
        pages = self.s3.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix="artifacts/"
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        self.world.check_artifacts({key.rpartition("/")[2] for key in keys})


@pytest.fixture
def bucket(
    make_world: Callable[..., World],
    postgres_database: str,
    redis: str,
    s3: servers.S3Server,
    media: Path,
) -> Iterator[Bucket]:
    name = s3.create_bucket()
    with s3_proxy(s3.endpoint_url) as proxy:
        world = make_world(
            database=postgres_database,
            broker=redis,
            artifacts=f"s3://{name}/artifacts",
            s3={
                "endpoint_url": proxy.endpoint_url,
                "max_attempts": 2,
                "read_timeout_seconds": 2,
            },
        )
        made = Bucket(world, proxy, s3, name)
        through = servers.S3Server(endpoint_url=proxy.endpoint_url)
        with closing(through.client):
            for path in sorted(media.iterdir()):
                made.put(path.name, path.read_bytes())
            yield made
            # Before the proxy goes.
            world.close()


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param([S3Rule(action="error", method="GET|HEAD|PUT", after=9, times=40)], id="500"),
        pytest.param(
            [S3Rule(action="slow_down", method="GET|HEAD|PUT", after=9, times=40)], id="503"
        ),
        pytest.param(
            [
                S3Rule(action="reset", path=SOURCES, at_byte=20, times=6),
                S3Rule(action="reset", path=ARTIFACTS, at_byte=20, times=6),
                S3Rule(action="reset", path="list-type", at_byte=50, times=3),
            ],
            id="reset",
        ),
        pytest.param(
            [
                S3Rule(action="flip", path=SOURCES, at_byte=30, times=2),
                S3Rule(action="flip", path=ARTIFACTS, at_byte=30, times=2),
            ],
            id="checksum",
        ),
        pytest.param([S3Rule(action="hang", after=12, times=3)], id="hang"),
    ],
)
def test_a_store_that_fails_for_a_while(
    bucket: Bucket, expected: Content, rules: list[S3Rule]
) -> None:
    for rule in rules:
        bucket.proxy.add(rule)
    bucket.world.workers(2)
    bucket.world.submit(bucket.source)
    bucket.check(expected)
    assert {line.split()[0] for line in bucket.proxy.log} == {rule.action for rule in rules}
    assert len(bucket.proxy.log) >= sum(rule.times or 0 for rule in rules) / 2


def test_permissions_that_end(bucket: Bucket, expected: Content) -> None:
    rule = bucket.proxy.add(S3Rule(action="denied", path=SOURCES, after=4, times=None))
    bucket.world.workers(2)
    job_id = bucket.world.submit(bucket.source)
    bucket.world.settle()
    errors = bucket.world.sql("SELECT DISTINCT error_class FROM job_item WHERE state = 'failed'")
    assert {"error_class": "AccessDeniedError"} in errors
    assert rule.seen > 4
    # The permission is back.
    bucket.proxy.clear()
    assert control.retry(bucket.world.database, job_id=job_id, error_class="AccessDeniedError") > 0
    bucket.check(expected)


def test_objects_that_change_between_listing_and_reading(
    bucket: Bucket, media: Path, expected: Content
) -> None:
    changed, deleted = "p-001.png", "s-000.wav"
    waiting = [
        Fault(action="wait", point="start", stage="ingest", asset=name)
        for name in (changed, deleted)
    ]
    bucket.world.workers(1, faults=waiting)
    bucket.world.submit(bucket.source)
    until(lambda: len(bucket.world.fired()) == 2)
    bucket.put(changed, (media / "p-002.png").read_bytes())
    bucket.s3.client.delete_object(Bucket=bucket.name, Key=f"media/{deleted}")
    bucket.world.go()
    bucket.check(expected, failed={deleted: "ObjectNotFoundError"}, exact=True)
    found = bucket.world.sql(
        "SELECT COUNT(DISTINCT asset_id) AS assets, COUNT(*) AS places FROM location "
        "WHERE uri LIKE '%p-001.png' OR uri LIKE '%p-002.png'"
    )
    assert found == [{"assets": 1, "places": 2}]


def test_objects_that_change_between_two_stages(
    bucket: Bucket, media: Path, expected: Content
) -> None:
    changed, deleted = "p-001.png", "c-000.mp4"
    bucket.world.settings |= {"scratch_max_bytes": 0}
    waiting = [
        Fault(action="wait", point="start", stage="split", asset=name)
        for name in (changed, deleted)
    ]
    bucket.world.workers(1, faults=waiting)
    bucket.world.submit(bucket.source)
    until(lambda: len(bucket.world.fired()) == 2)
    bucket.put(changed, b"other bytes")
    bucket.s3.client.delete_object(Bucket=bucket.name, Key=f"media/{deleted}")
    bucket.world.go()
    gone = dict.fromkeys((changed, deleted), "ObjectNotFoundError")
    bucket.check(expected, failed=gone, exact=True)
