"""Work that nobody waits for: files that callers leave here, and batches of requests that are read from them."""

from catena.reach.batches.batch import Batch, Counts, Problem, Spent
from catena.reach.batches.batches import Batches
from catena.reach.batches.files import Files, StoredFile
from catena.reach.batches.runner import Runner
from catena.reach.batches.work import Answered, Ask

__all__ = ["Answered", "Ask", "Batch", "Batches", "Counts", "Files", "Problem", "Runner", "Spent", "StoredFile"]
