"""The trusted side of autonous: it owns the engine, the ledger, the revisions and every decision."""

__version__ = "0.1.0"
