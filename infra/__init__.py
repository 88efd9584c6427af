"""What the service runs on: deployments, and the S3 server of tests and demo."""
