"""STORED: manifests, blobs by digest, formats, pull, verify, provenance."""
