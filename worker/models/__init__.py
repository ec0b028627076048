"""Models that answer: one protocol, one module for each provider. SDKs are imported only by their own module."""
