"""The demo: sample media out of packages, in a bucket of a private S3 server."""
