"""Online tracking of many objects, by arrays: boxes, scores and embeddings from anywhere."""

from tupelo.tracking.settings import TrackerSettings
from tupelo.tracking.tracker import Tracked, Tracker

__all__ = ["Tracker", "TrackerSettings", "Tracked"]
