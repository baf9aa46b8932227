"""Bodies of events against their published schemas; which webhooks may be called."""

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.config import EventOptions, Settings
from pipeline.db.webhooks import check_webhook, shown_url, signed_headers, signing_key
from pipeline.errors import ConfigurationError
from schemas.events import AssetFinished
from schemas.export import EVENT_FILES, as_text, event_schema

SECRET = "a secret of the tests"


@pytest.mark.parametrize("file", EVENT_FILES, ids=lambda file: file.name)
def test_the_published_schema_is_that_of_the_model(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == as_text(event_schema(EVENT_FILES[file])), (
        "run python -m schemas.export"
    )


@pytest.mark.parametrize("event", EVENT_FILES.values(), ids=lambda event: event.__name__)
def test_readers_may_count_on_every_field_and_meet_new_ones(event: type[BaseModel]) -> None:
    schema = event_schema(event)
    assert set(schema["required"]) == set(event.model_fields)
    assert schema.get("additionalProperties", True) is True


def test_a_body_of_a_later_day_is_read() -> None:
    body = AssetFinished.model_validate(
        {
            **dict.fromkeys(("job_key", "asset_id", "sha256", "error_class", "error_text")),
            "job_id": 1,
            "uri": "s3://b/k",
            "status": "done",
            "a_new_field": 1,
            "finished_at": "2026-05-04T03:02:01.000Z",
        }
    )
    assert body.event == "asset.finished"


def settings(*hosts: str, secret: str | None = SECRET) -> Settings:
    return Settings(events=EventOptions(webhook_hosts=hosts, webhook_secret=secret))


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://hooks.example/a?b=c", ["other.example", "hooks.example"]),
        ("https://HOOKS.example:8443/", ["hooks.example"]),
        ("https://hooks.example:8443/", ["hooks.example:8443"]),
        ("https://hooks.example/", ["hooks.example:443"]),
        ("https://bücher.example/", ["xn--bcher-kva.example"]),
        ("https://xn--bcher-kva.example/", ["bücher.example"]),
        ("http://127.0.0.1:8000/", ["127.0.0.1"]),
        ("http://localhost:8000/", ["localhost:8000"]),
        ("http://[::1]:8000/", ["[::1]:8000"]),
    ],
)
def test_a_listed_host_may_be_called(url: str, hosts: list[str]) -> None:
    check_webhook(url, settings(*hosts))


@pytest.mark.parametrize(
    ("url", "hosts", "reason"),
    [
        ("https://hooks.example/", [], "no webhooks are called on hooks.example:443"),
        ("https://evil.example/", ["hooks.example"], "no webhooks"),
        ("https://hooks.example.evil.example/", ["hooks.example"], "no webhooks"),
        ("https://a.hooks.example/", ["hooks.example"], "no webhooks"),
        ("https://hooks.example:8443/", ["hooks.example:443"], "no webhooks"),
        ("https://hooks.example@evil.example/", ["hooks.example"], "names a user"),
        ("https://user:pass@hooks.example/", ["hooks.example"], "names a user"),
        ("https://evil.example\\@hooks.example/", ["hooks.example"], "names a user"),
        ("https://evil.example#@hooks.example/", ["hooks.example"], "no webhooks"),
        ("http://hooks.example/", ["hooks.example"], "must be https"),
        ("http://169.254.169.254/latest", ["169.254.169.254"], "must be https"),
        ("ftp://hooks.example/", ["hooks.example"], "no URL of http"),
        ("https://", ["hooks.example"], "no URL of http"),
        ("https://hooks.example:port/", ["hooks.example"], "no URL"),
        ("https://hooks.example/", ["hooks.example:port"], "neither host nor host:port"),
    ],
)
def test_all_others_are_refused_in_one_sentence(url: str, hosts: list[str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        check_webhook(url + "?token=secret-token", settings(*hosts))
    assert "secret-token" not in str(caught.value)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("secret", [None, "", "whsec_", "whsec_no base64!"])
def test_a_webhook_without_a_secret_is_refused(secret: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"secret") as caught:
        check_webhook("https://hooks.example/", settings("hooks.example", secret=secret))
    assert "no base64!" not in str(caught.value)


def test_a_call_is_signed_as_the_standard_says() -> None:
    # Computed with the reference implementation (standardwebhooks 1.1.0).
    key = signing_key(settings(secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    assert key == base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(key, event_id=7, timestamp=1614265330, body=b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_7",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,KKK1SikcGu/XNPE1+mzvalJOZEOD1n7py0wniAFp+vU=",
    }
    assert signing_key(settings(secret="plain é")) == "plain é".encode()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example:8443/b?c=d#e", "https://a.example:8443/b"),
        ("https://user:pass@a.example/b", "https://a.example/b"),
        ("https://a.example:x/?token", "(no URL)"),
    ],
)
def test_people_see_a_url_without_its_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_retry_after() -> None:
    from workers.webhooks import _retry_after

    cases: dict[str, Any] = {"": 0, "120": 120, "-5": 0, "soon": 0, "²": 0}
    assert {value: _retry_after(value) for value in cases} == cases
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert _retry_after("Wed, 21 Oct 2099 07:28:00 GMT") > 1e9
