"""STORED: manifests, blobs by digest, formats, pull, verify, provenance."""

from catena.store.derive import Change, Upload
from catena.store.offers import Offer, catalogue
from catena.store.rows import Collected, Progress, Pulled, Row
from catena.store.store import Store

__all__ = ["Change", "Collected", "Offer", "Progress", "Pulled", "Row", "Store", "Upload", "catalogue"]
