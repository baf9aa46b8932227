"""Messages from an SQS queue: long poll, deleted after the commit.

Refused messages go to the table of dead letters only; SQS has dead-letter queues of its own for
what is never deleted.
"""

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import BrokerUnavailableError, ConfigurationError
from pipeline.runner.runtime import Runtime
from workers.intake.handler import (
    GIVEN_BACK_SECONDS,
    Incoming,
    Kind,
    Verdict,
    message_key,
    settle_patiently,
)
from workers.intake.listener import Listener
from workers.outage import Outage

BATCH = 10
#: Of a long poll; also the longest that stopping has to wait.
WAIT_SECONDS = 5
_WRONG_SETTINGS = (
    "NonExistentQueue",
    "QueueDoesNotExist",
    "InvalidAddress",
    "AccessDenied",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
)


class SqsListener(Listener):
    """Takes the messages of one SQS queue."""

    def __init__(self, runtime: Runtime, *, url: str, kind: Kind) -> None:
        super().__init__(runtime, f"SQS queue {url}")
        self._url = url
        self._kind: Kind = kind
        self._outage = Outage()
        try:
            # A session of its own: the default one is not made for threads.
            self._client = boto3.session.Session().client(
                "sqs",
                endpoint_url=runtime.settings.intake.sqs_endpoint_url,
                config=Config(
                    connect_timeout=5,
                    read_timeout=WAIT_SECONDS + 10,
                    retries={"total_max_attempts": 3, "mode": "standard"},
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"SQS cannot be used: {error}") from error

    def _prepare(self) -> None:
        try:
            self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        except ClientError as error:
            if any(code in error.response["Error"]["Code"] for code in _WRONG_SETTINGS):
                raise ConfigurationError(
                    f"the SQS queue {self._url} cannot be read: {error}"
                ) from error
            raise BrokerUnavailableError(f"the SQS queue {self._url} failed: {error}") from error
        except BotoCoreError as error:
            raise BrokerUnavailableError(
                f"the SQS queue {self._url} cannot be reached: {error}"
            ) from error

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                received = self._receive()
                self._outage.over()
                for message in received:
                    if self._stopping.is_set() or not self._settle(message):
                        break
            except (ClientError, BotoCoreError) as error:
                # Expired credentials and missing permissions too: they may be mended meanwhile.
                self._stopping.wait(self._outage.met("sqs_failed", error))
        self._client.close()

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=WAIT_SECONDS,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _settle(self, message: dict[str, Any]) -> bool:
        """Handle one message; gives whether to go on with the next one."""
        body = message["Body"].encode("utf-8", "surrogatepass")
        incoming = Incoming(
            kind=self._kind,
            body=body,
            key=message_key("sqs", message["MessageId"], body),
            deliveries=int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
        )
        outcome = settle_patiently(self._runtime, incoming, self._stopping)
        if outcome is None:
            return False
        if outcome.verdict is Verdict.AGAIN:
            # It comes again when its visibility timeout is over.
            self._stopping.wait(GIVEN_BACK_SECONDS)
            return True
        self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return True
