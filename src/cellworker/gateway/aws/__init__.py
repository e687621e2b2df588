"""Adapters for SQS and S3."""
