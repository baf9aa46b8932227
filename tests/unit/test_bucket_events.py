"""The dialects of bucket events, and what they have in common."""

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bucket_events import BucketEvent, is_later, parse_bucket_message


def aws_record(name: str = "ObjectCreated:Put", **described: Any) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-03-01T10:20:30.456Z",
        "eventName": name,
        "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "10.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "to-mediaweave",
            "bucket": {
                "name": "films",
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": "arn:aws:s3:::films",
            },
            "object": {"key": "in/a.mp4", **described},
        },
    }


def parsed(message: Any) -> list[BucketEvent]:
    return parse_bucket_message(json.dumps(message).encode())


AWS_CREATED = aws_record(
    key="in/My+holiday%2B%C3%A9.mp4",
    size=1024,
    eTag="d41d8cd98f00b204e9800998ecf8427e",
    versionId="096fKKXTRTtl3on89fVO.nfljtsv6qko",
    sequencer="0055AED6DCD90281E5",
)
HOLIDAY = BucketEvent(
    kind="created",
    bucket="films",
    key="in/My holiday+é.mp4",
    version="096fKKXTRTtl3on89fVO.nfljtsv6qko",
    etag="d41d8cd98f00b204e9800998ecf8427e",
    size_bytes=1024,
    sequencer="0055AED6DCD90281E5",
)


def sns(message: Any) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:eu-central-1:123456789012:films",
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(message),
        "Timestamp": "2026-03-01T10:20:31.000Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "UnsubscribeURL": "https://sns.example/",
    }


def test_aws_sends_records_with_form_encoded_keys() -> None:
    assert parsed({"Records": [AWS_CREATED]}) == [HOLIDAY]
    assert HOLIDAY.uri == "s3://films/in/My holiday+é.mp4"


def test_sns_wraps_the_same_as_a_text() -> None:
    assert parsed(sns({"Records": [AWS_CREATED]})) == [HOLIDAY]


def test_a_removal_has_neither_tag_nor_size() -> None:
    record = aws_record("ObjectRemoved:Delete", sequencer="0055AED6DCD90281E6")
    assert parsed({"Records": [record]}) == [
        BucketEvent(kind="removed", bucket="films", key="in/a.mp4", sequencer="0055AED6DCD90281E6")
    ]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("ObjectRemoved:Delete", "v1"),
        ("LifecycleExpiration:Delete", "v1"),
        # The version is the delete marker's: the object as a whole is gone.
        ("ObjectRemoved:DeleteMarkerCreated", None),
        ("LifecycleExpiration:DeleteMarkerCreated", None),
        ("s3:ObjectRemoved:DeleteAllVersions", None),
        ("ObjectLifecycle:Expiration:Current", None),
    ],
)
def test_ways_to_go(name: str, version: str | None) -> None:
    (event,) = parsed({"Records": [aws_record(name, versionId="v1")]})
    assert (event.kind, event.version) == ("removed", version)


@pytest.mark.parametrize(
    "name",
    [
        "ObjectRestore:Completed",
        "ObjectRestore:Delete",
        "Replication:OperationFailedReplication",
        "ObjectTagging:Put",
        "ObjectAcl:Put",
        "LifecycleTransition",
        "IntelligentTiering",
        "s3:ObjectCreated:PutTagging",
        "s3:ObjectCreated:PutRetention",
        "s3:ObjectRemoved:NoOP",
        "s3:ObjectAccessed:Get",
        "ObjectLifecycle:Expiration:NonCurrent",
        "SomethingNew",
    ],
)
def test_what_makes_no_object_appear_or_go_is_no_event(name: str) -> None:
    assert parsed({"Records": [aws_record(name, size=5)]}) == []


EVENT_BRIDGE = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2026-03-01T00:00:00Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:s3:::films"],
    "detail": {
        "version": "0",
        "bucket": {"name": "films"},
        "object": {
            "key": "in/100%+1 é.mp4",
            "size": 5,
            "etag": "b1946ac92492d2347c6235b4d2611184",
            "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            "sequencer": "617f08299329d189",
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
        "reason": "PutObject",
    },
}


def event_bridge(kind: str, **detail: Any) -> dict[str, Any]:
    return {**EVENT_BRIDGE, "detail-type": kind, "detail": {**EVENT_BRIDGE["detail"], **detail}}


def test_event_bridge_does_not_encode_keys() -> None:
    expected = BucketEvent(
        kind="created",
        bucket="films",
        key="in/100%+1 é.mp4",
        version="IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
        etag="b1946ac92492d2347c6235b4d2611184",
        size_bytes=5,
        sequencer="617f08299329d189",
    )
    assert parsed(EVENT_BRIDGE) == [expected]
    assert parsed(sns(EVENT_BRIDGE)) == [expected]


def test_event_bridge_tells_markers_from_deleted_versions() -> None:
    described = {"key": "in/a.mp4", "version-id": "v2", "sequencer": "617f0837b476e463"}
    for deletion, version in (("Permanently Deleted", "v2"), ("Delete Marker Created", None)):
        message = event_bridge(
            "Object Deleted",
            object=described,
            reason="DeleteObject",
            **{"deletion-type": deletion},
        )
        (event,) = parsed(message)
        assert (event.kind, event.version, event.size_bytes) == ("removed", version, None)


def test_other_events_of_event_bridge_are_none() -> None:
    assert parsed(event_bridge("Object Restore Completed")) == []
    assert parsed(event_bridge("Object Tags Added")) == []
    assert parsed({**EVENT_BRIDGE, "source": "aws.ec2"}) == []


MINIO_RECORD = {
    **aws_record("s3:ObjectCreated:CompleteMultipartUpload"),
    "eventSource": "minio:s3",
    "eventVersion": "2.0",
    "source": {"host": "127.0.0.1", "port": "", "userAgent": "MinIO (linux; amd64)"},
    "s3": {
        "s3SchemaVersion": "1.0",
        "configurationId": "Config",
        "bucket": {
            "name": "films",
            "ownerIdentity": {"principalId": "minio"},
            "arn": "arn:aws:s3:::films",
        },
        "object": {
            "key": "in%2Fholiday+1.mp4",
            "size": 2048,
            "eTag": "9b2cf535f27731c974343645a3985328-2",
            "contentType": "video/mp4",
            "userMetadata": {"content-type": "video/mp4"},
            "versionId": "null",
            "sequencer": "17B4C5A9D0F3E2B1",
        },
    },
}
MINIO_EVENT = BucketEvent(
    kind="created",
    bucket="films",
    key="in/holiday 1.mp4",
    etag="9b2cf535f27731c974343645a3985328-2",
    size_bytes=2048,
    sequencer="17B4C5A9D0F3E2B1",
)


def test_minio_sends_a_prefix_and_a_summary() -> None:
    message = {
        "EventName": "s3:ObjectCreated:CompleteMultipartUpload",
        "Key": "films/in/holiday 1.mp4",
        "Records": [MINIO_RECORD],
    }
    assert parsed(message) == [MINIO_EVENT]


def test_minio_puts_lists_into_redis() -> None:
    entry = {"Event": [MINIO_RECORD], "EventTime": "2026-03-01T10:20:30.456Z"}
    assert parsed([entry]) == [MINIO_EVENT]
    assert parsed([entry, entry]) == [MINIO_EVENT, MINIO_EVENT]


def test_ceph_sends_plain_keys_sizes_as_texts_and_times_as_they_lie_in_memory() -> None:
    # The example of Ceph's documentation, with another key.
    record = {
        "eventVersion": "2.1",
        "eventSource": "ceph:s3",
        "awsRegion": "zonegroup1",
        "eventTime": "2019-11-22T13:47:35.124724Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "tester"},
        "requestParameters": {"sourceIPAddress": ""},
        "responseElements": {"x-amz-request-id": "503a4c37", "x-amz-id-2": "14d2-zone1"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "mynotif1",
            "bucket": {
                "name": "mybucket1",
                "ownerIdentity": {"principalId": "tester"},
                "arn": "arn:aws:s3:zonegroup1::mybucket1",
                "id": "503a4c37-85eb-47cd-8681-2817e80b4281.5332.38",
            },
            "object": {
                "key": "a+b%20c é.mp4",
                "size": "1024",
                "eTag": "37b51d194a7513e45b56f6524f2d51f2",
                "versionId": "",
                "sequencer": "F7E6D75DC742D108",
                "metadata": [],
                "tags": [],
            },
        },
        "eventId": "",
        "opaqueData": "me@example.com",
    }
    (event,) = parsed({"Records": [record]})
    assert event == BucketEvent(
        kind="created",
        bucket="mybucket1",
        key="a+b%20c é.mp4",
        etag="37b51d194a7513e45b56f6524f2d51f2",
        size_bytes=1024,
        # 13:47:35 of that day, then 0.147931847 seconds.
        sequencer="5dd7e6f708d142c7",
    )
    assert event.sequencer is not None
    assert int(event.sequencer[:8], 16) == 1574430455


def test_test_events_are_none() -> None:
    test_event = {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2026-03-01T10:20:30.456Z",
        "Bucket": "films",
        "RequestId": "5582815E1AEA5ADF",
        "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
    }
    assert parsed(test_event) == []
    assert parsed(sns(test_event)) == []


def test_placeholders_are_no_events() -> None:
    folder = aws_record(key="in/", size=0)
    empty = aws_record(key="in/.keep.mp4", size=0)
    gone = aws_record("ObjectRemoved:Delete", key="in/")
    assert parsed({"Records": [folder, empty, gone]}) == []


def test_several_records_keep_their_order() -> None:
    records = [aws_record(key=f"{n}.mp4", size=1) for n in range(5)]
    assert [event.key for event in parsed({"Records": records})] == [f"{n}.mp4" for n in range(5)]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"3", "the message is not an object but 3"),
        (b"{}", "neither Records, nor detail-type, nor an SNS Message, but nothing"),
        (b'{"sources": ["s3://b/k"]}', "but sources"),
        (b'[{"EventTime": "x"}]', "Event is not a list but None"),
        (b'{"Records": {}}', "Records is not a list"),
        (b'{"Records": [1]}', "a record is not an object but 1"),
        (b'{"Records": [{"s3": {}}]}', "a record has no eventName"),
        (b'{"Records": [{"eventName": "ObjectCreated:Put"}]}', "s3 of ObjectCreated:Put"),
        (b'{"Type": "Notification"}', "has no Message"),
        (b'{"Type": "Notification", "Message": "hello"}', "is not JSON"),
    ],
)
def test_what_is_no_event_is_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_bucket_message(body)


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        ({"key": ""}, "names no key"),
        ({"key": 7}, "key is not a text but 7"),
        ({"key": "a%FF.mp4"}, "is not percent-encoded UTF-8"),
        ({"key": "a%00.mp4"}, "holds a NUL character"),
        ({"key": "a\ud800.mp4"}, "is not valid Unicode"),
        ({"size": "many"}, "the size 'many' is no number of bytes"),
        ({"size": [1]}, "is no number of bytes"),
    ],
)
def test_what_is_wrong_with_an_object_is_named(described: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parsed({"Records": [aws_record(**described)]})


def test_a_notification_is_unwrapped_once() -> None:
    with pytest.raises(ValueError, match="neither Records"):
        parsed(sns(sns({"Records": []})))


@given(
    key=st.text(min_size=1).filter(lambda key: "\0" not in key and not key.endswith("/")),
    keeps_slashes=st.booleans(),
)
def test_any_key_comes_back(key: str, keeps_slashes: bool) -> None:
    encoded = quote_plus(key, safe="/" if keeps_slashes else "")
    (event,) = parsed({"Records": [aws_record(key=encoded, size="3")]})
    assert event.key == key
    described = {"key": key, "size": 3}
    (event,) = parsed(event_bridge("Object Created", object=described))
    assert event.uri == f"s3://films/{key}"


@given(body=st.binary() | st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner)
    | st.dictionaries(
        st.sampled_from(["Records", "Event", "s3", "object", "key", "eventName", "detail-type"])
        | st.text(),
        inner,
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_garbage_is_refused_and_never_an_error_of_ours(body: bytes) -> None:
    try:
        events = parse_bucket_message(body)
    except ValueError:
        return
    assert all(isinstance(event, BucketEvent) for event in events)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("0055AED6DCD90281E5", "0055AED6DCD90281E6"),
        ("000F", "0010"),
        # SQS gets two zeros in front, EventBridge small letters.
        ("00617F08299329D189", "617f08299329d18a"),
        ("617f08299329d189", "00617F08299329D18A"),
        # Of different lengths: the time stands first.
        ("0055AED6DCD90281E5FF", "0055AED6DCD90281E6"),
        ("0055AED6DCD90281E5", "0055AED6DCD90281E501"),
    ],
)
def test_sequencers_order_events_of_a_key(earlier: str, later: str) -> None:
    assert is_later(later, than=earlier)
    assert not is_later(earlier, than=later)
    assert not is_later(earlier, than=earlier)


def test_one_event_on_two_ways_is_the_same() -> None:
    assert not is_later("00617F08299329D189", than="617f08299329d189")
    assert not is_later("617f08299329d189", than="00617F08299329D189")
