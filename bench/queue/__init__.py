"""What the queue costs: ``make bench-queue``.

One module per figure, each against a baseline measured in the same run, in turns with it. Private
servers (RabbitMQ, PostgreSQL) come from ``tests/servers.py``.
"""
