"""WATCHED: the audit log (Merkle tree, signed checkpoints, proofs) and metrics."""
