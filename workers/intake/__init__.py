"""Takes work in: messages of a broker, of SQS and over HTTP become jobs."""
